"""Training and evaluation data: drawn garments, street queries made from photos, manifests."""
