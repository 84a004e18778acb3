"""A second maker of street queries, whose code shares nothing with the first."""
