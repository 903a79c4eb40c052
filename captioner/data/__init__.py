"""From files on a disk to what a model eats: records, words, pixels and stored features."""
