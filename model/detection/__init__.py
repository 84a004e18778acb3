"""Where the garments of a photo are."""

from typing import Final

LOOK_PX: Final = 1024
"""Long side at which a photo is decoded for a detector, and cut for what follows."""
