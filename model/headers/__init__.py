"""What an image file's own structure says before a decoder sees its bytes: how large, how costly, how far-fetched."""
