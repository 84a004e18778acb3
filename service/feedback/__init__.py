"""What was searched lately, what people said of it, and the training set that it becomes."""
