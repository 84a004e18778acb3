"""Networks converted once for an engine that runs them faster than torch, and kept."""
