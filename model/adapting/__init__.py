"""Encoders of others made useful without labels: components fitted on a shop's own photos."""
