"""A garment parser: which pixels of a photo are which kind of garment, and what follows from that."""
