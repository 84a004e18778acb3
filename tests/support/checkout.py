"""Where this checkout is, and how a process that a test starts finds the same code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
IMPORT_PATH: Final = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
"""PYTHONPATH of a child: the package before any installed one, and `tests`."""
