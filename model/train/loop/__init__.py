"""What every phase shares: precision, processes, state on disk, validation, curves."""
