"""Garments dyed in other colours: the variants of one cut that a shop sells, to learn to tell apart."""
