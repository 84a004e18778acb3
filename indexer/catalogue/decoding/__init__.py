"""Photos decoded in processes that may hang, crash or be killed."""
