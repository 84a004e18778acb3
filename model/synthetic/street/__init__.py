"""Street queries made from photos of real garments."""
