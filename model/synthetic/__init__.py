"""Garments that we make: drawn from nothing, or cut out of real photos and set before another background."""
