"""Where the garments of a photo are."""
