"""The phases of a recipe: backbone, head, both at once, and the head of the rival."""
