"""A photo taken again: other folds, another light, another camera, something in front of it."""
