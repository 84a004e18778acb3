"""Training of the garment parser."""
