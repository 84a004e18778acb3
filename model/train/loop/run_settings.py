"""What a run folder was begun with, so that a run goes on with the settings it began with, or not at all.

RUN/plan.json   the recipe's settings by part, plain JSON
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from threadmatch.model.errors import ConfigError

PLAN_FILE = "plan.json"

Plan = Mapping[str, Mapping[str, Any] | None]
"""The settings of each part of a recipe; None for a part that it leaves out."""


def keep_to_plan(run: Path, plan: Plan, phases: Mapping[str, Path], *, write: bool = True) -> None:
    """Write down what a run does, or refuse to go on differently than it began.

    A phase that has not begun may be changed; what went before it may not.

    Args:
        run: folder.
        plan: of the run now; the phases last, in their order.
        phases: by the part's name the file that an unfinished or finished phase leaves.
        write: whether this is the process that writes.

    Raises:
        ConfigError: settings differ from those of an earlier run in the folder, each is named; or its plan is damaged.
    """
    path = run / PLAN_FILE
    now = json.loads(json.dumps(plan))
    begun = [name for name, state in phases.items() if state.exists()]
    if begun and path.exists():
        try:
            earlier = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read ({error}); take another --run folder") from error
        parts = list(now)[: list(now).index(begun[-1]) + 1]
        if changed := [change for part in parts for change in _changes(part, earlier.get(part), now[part])]:
            what = "; ".join(changed)
            raise ConfigError(
                f"{run} holds a run of other settings: {what}; give them as they were, or another --run folder"
            )
    if not write:
        return
    staged = path.with_suffix(".partial")
    staged.write_text(json.dumps(now, indent=2) + "\n")
    staged.replace(path)


def _changes(part: str, earlier: dict[str, Any] | None, now: dict[str, Any] | None) -> list[str]:
    """Settings that both know and that differ; a release may have learned new ones."""
    if earlier is None or now is None:
        return [] if earlier == now else [f"[{part}] was {'given' if earlier is not None else 'left out'}"]
    names = [name for name in now if name in earlier and earlier[name] != now[name]]
    return [f"[{part}] {name} was {earlier[name]!r}, is {now[name]!r}" for name in names]
