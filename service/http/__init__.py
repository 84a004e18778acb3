"""What crosses HTTP: bodies, forms, schemas, and what every request gets."""
