"""Matching on a GPU: kernels in Triton, what calls them, and what holds them to torch before they serve."""
