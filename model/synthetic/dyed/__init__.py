"""Photos of garments in other colours."""
