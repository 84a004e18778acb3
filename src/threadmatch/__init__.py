"""threadmatch: a street photo in, the same garment in the shop's catalogue out."""
