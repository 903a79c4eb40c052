"""Files as every room reads and writes them: atomically, under a lock, within bounds."""
