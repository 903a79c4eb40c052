"""What exists for speed only; each function has a plain equivalent that its tests compare with."""
