"""What stops a demo."""

from __future__ import annotations


class DemoError(Exception):
    """A step did not go well; the message is for the person who started it."""
