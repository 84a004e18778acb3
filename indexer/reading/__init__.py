"""A gallery as a search reads it."""
