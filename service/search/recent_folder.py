"""Where recent searches are kept for as long as a service runs. Without torch: the parent of its workers makes it."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Final

from threadmatch.service.owned_folders import owned_folder

logger = logging.getLogger(__name__)

TEMPORARY: Final = "threadmatch-recent-"
"""How its name begins."""


def temporary(ending: contextlib.ExitStack) -> Path | None:
    """A private folder until the end of `ending`; None where there is no room for one, which the log says."""
    try:
        return ending.enter_context(owned_folder(TEMPORARY))
    except OSError as error:  # a service without a folder for temporary files still searches
        logger.warning("recent searches are not kept", extra={"reason": str(error)})
        return None
