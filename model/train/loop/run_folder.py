"""A run's folder: the files of each phase, and what it was begun with, so that a run goes on with that or not at all.

RUN/plan.json                             the recipe's settings by part, plain JSON
RUN/finetune.jsonl, end_to_end.jsonl, ... a line an evaluation, of the phase that `PhaseFiles` names
RUN/finetune.pt, end_to_end.pt, state.pt  what the phase needs to go on after a kill
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from threadmatch.model.errors import ConfigError
from threadmatch.model.progress import Progress, unheard
from threadmatch.model.train.loop.torchrun import Processes

PLAN_FILE = "plan.json"

Plan = Mapping[str, Mapping[str, Any] | None]
"""The settings of each part of a recipe; None for a part that it leaves out."""


@dataclass(frozen=True, slots=True)
class PhaseFiles:
    """What a phase leaves in a run's folder.

    Fields:
        phase: its name, as people read it.
        log: a JSON object an evaluation.
        state: what it needs to go on.
    """

    phase: str
    log: str
    state: str


FINETUNE = PhaseFiles("finetune", "finetune.jsonl", "finetune.pt")
END_TO_END = PhaseFiles("end_to_end", "end_to_end.jsonl", "end_to_end.pt")
HEAD = PhaseFiles("head", "curves.jsonl", "state.pt")
KPM = PhaseFiles("kpm", "kpm.jsonl", "kpm.pt")
ATTRIBUTES = PhaseFiles("attributes", "attributes.jsonl", "attributes.pt")
ALIGNMENT = PhaseFiles("alignment", "curves.jsonl", "state.pt")


@dataclass(frozen=True, slots=True)
class Run:
    """Where a phase trains, in which processes, and who hears of it.

    Fields:
        folder: of its files; an unfinished run there goes on from its last evaluation, on the CPU to the same bits.
        processes: that train together; by default this one, on the CPU.
        progress: hears of steps and of queries ranked.
        after_evaluation: called with the step and its figures.
    """

    folder: Path
    processes: Processes = field(default_factory=Processes)
    progress: Progress = unheard
    after_evaluation: Callable[[int, dict[str, float]], None] | None = None

    def say(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Progress, from the main process alone."""
        if self.processes.main:
            self.progress(stage, done, total, note)


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
