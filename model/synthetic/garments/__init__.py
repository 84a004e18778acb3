"""A drawn garment: who it is, its cut, cloth and details, as SVG."""
