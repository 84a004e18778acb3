"""Where a figure comes from: the command, the commit, the machine. Written beside every figure."""

from __future__ import annotations

import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from threadmatch.model.speed import machine

ROOT = Path(__file__).resolve().parents[2]


def provenance() -> dict[str, Any]:
    """The command of this process, the commit of its code, the machine and the time, as JSON types."""
    return {"command": command_line(), "commit": commit(), "machine": machine(), "made_at": _now()}


def command_line() -> str:
    """What was typed, with the program's own name."""
    name = "threadmatch" if Path(sys.argv[0]).name in ("threadmatch", "__main__.py") else Path(sys.argv[0]).name
    return shlex.join([name, *sys.argv[1:]])


def commit(root: Path = ROOT) -> str | None:
    """The code's commit, with "+" where the files differ from it; None outside a checkout."""
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD").strip()
        changed = _git(root, "status", "--porcelain", "--untracked-files=no").strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(  # noqa: S603 (fixed arguments)
        ["git", *arguments],  # noqa: S607 (whichever git is installed)
        cwd=root, capture_output=True, text=True, check=True, timeout=20,
    ).stdout  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
