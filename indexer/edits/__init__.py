"""Live writes, and folding them into a generation."""
