"""What can go wrong in the model room.

ModelError
 +- InvalidImageError   the bytes or the box of one image; whoever sent it can mend it
 +- ConfigError         a model configuration that cannot be built
 +- CheckpointError     weights or their description missing, damaged or of another model
 +- CompileError        a network that the engine asked for cannot run; another engine can
 +- DataError           a data set, manifest or source photo that cannot be used
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of every error the model room raises on purpose."""


class InvalidImageError(ModelError):
    """An image that cannot be searched or ingested.

    Args:
        message: what was found, what was expected, what to do.
        reason: short stable code for counters and reject files, e.g. "truncated".
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ConfigError(ModelError):
    """A model configuration that names something unknown or contradicts itself."""


class CheckpointError(ModelError):
    """A checkpoint that is missing, damaged, or belongs to another model or version."""


class CompileError(ModelError):
    """A network that an engine cannot convert, or does not compute as torch does."""


class DataError(ModelError):
    """A data set or manifest that cannot be used as asked."""
