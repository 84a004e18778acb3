"""Garments worn in the street, from photos with a mask."""
