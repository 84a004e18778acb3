"""`threadmatch demo`: a gallery, a service and some street photos, through the same commands that a user types."""
