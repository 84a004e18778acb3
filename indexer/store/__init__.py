"""The truth: the database, its generations, and how one is published."""
