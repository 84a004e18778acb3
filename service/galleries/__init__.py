"""The galleries in service: opened, kept up to date, written to."""
