"""The model shared by all requests: batches, bounds and threads."""
