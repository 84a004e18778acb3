"""Training of the network of attributes: triplets, losses, and one recipe over cached maps."""
