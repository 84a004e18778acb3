"""Processes: the server, its workers, and commands as a user would start them."""
