"""The one loop of training: steps, evaluations, the best weights, and all of it on disk, so that a killed run goes on.

A phase says what a step's losses are and how a module is evaluated; everything else is the same for all of them.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from threadmatch.model.errors import ConfigError
from threadmatch.model.train.loop.run_folder import PhaseFiles, Run

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)

Losses = Callable[[int], dict[str, Tensor]]
"""Of a step by its number; `total` is what is brought down."""

_SEED_STRIDE = 1_000_003
_OLDER_NAMES = {"parts": "module", "rate": "schedule"}
"""What the head's state was called before all phases shared one loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How far a phase trains, and what it keeps.

    Fields:
        files: its log and its state in the run's folder.
        steps: of the whole training, those of an earlier run counted in.
        evaluate_every: so many steps; there is an evaluation at the start and one at the end, too.
        chosen_by: the figure by which the best weights are kept.
        seed: of each step, with its number.
        average: of the weights, exponential: the averaged ones are evaluated and kept; 0: as they are.
        clip: largest norm of a step's gradient; 0: any.
    """

    files: PhaseFiles
    steps: int
    evaluate_every: int
    chosen_by: str
    seed: int
    average: float = 0.0
    clip: float = 0.0


class TrainingLoop(Generic[M]):
    """A module in training, its averaged weights, and the best of them.

    Goes on where an earlier run in the same folder stopped, if there is one.

    Args:
        module: that is trained, on its device.
        optimiser: of its parameters.
        schedule: of the optimiser.
        course: how far.
        run: where, by whom, and who hears of it.

    Raises:
        ConfigError: the folder holds the state of another recipe or release.
    """

    def __init__(
        self,
        module: M,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        *,
        course: Course,
        run: Run,
    ) -> None:
        self.module, self.averaged = module, module
        self.step = 0
        self.best: dict[str, float] = {}
        self._best_weights: dict[str, Tensor] = {}
        self._optimiser, self._schedule = optimiser, schedule
        self._course, self._run = course, run
        run.folder.mkdir(parents=True, exist_ok=True)
        if course.average:
            self.averaged = copy.deepcopy(module).requires_grad_(False)
        if self._state.exists():
            self._resume()
        run.processes.wait()  # all have read what an earlier run left before one writes

    def train(self, losses: Losses, evaluate: Callable[[M], dict[str, float]]) -> dict[str, float]:
        """Train up to the course's end, and put the best weights into the module, on the CPU, in evaluation mode.

        Args:
            losses: of a step; random numbers of torch that it draws depend on the step alone.
            evaluate: the figures of a module, `course.chosen_by` among them.

        Returns:
            The best figures.
        """
        course = self._course
        if self.step == 0 and not self.best:  # the start counts: a run that only made it worse gives it back
            self._keep({"step": 0, **evaluate(self.averaged)})
        started = time.monotonic()
        while self.step < course.steps:
            torch.manual_seed(course.seed * _SEED_STRIDE + self.step)
            found = losses(self.step)
            self._advance(found["total"])
            self._run.say(f"training, {course.files.phase}", self.step, course.steps, self._standing())
            if self.step % course.evaluate_every == 0 or self.step == course.steps:
                row = {"step": self.step, "seconds": time.monotonic() - started}
                row |= {f"loss_{name}": float(value.detach()) for name, value in found.items()}
                row |= evaluate(self.averaged)
                self._keep(row)
                if self._run.after_evaluation:
                    self._run.after_evaluation(self.step, row)
        self.module.load_state_dict(self._best_weights)
        self.module.to("cpu").eval()
        return self.best

    def _advance(self, loss: Tensor) -> None:
        """One step of the optimiser, and of the average."""
        self._optimiser.zero_grad()
        loss.backward()
        if self._course.clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self._course.clip)
        self._optimiser.step()
        self._schedule.step()
        self.step += 1
        if self.averaged is self.module:
            return
        keep = min(self._course.average, (1 + self.step) / (10 + self.step))  # at first there is little to average
        values = zip(self.averaged.state_dict().values(), self.module.state_dict().values(), strict=True)
        with torch.no_grad():
            for average, value in values:
                if average.is_floating_point():  # batch norm's statistics too
                    average.lerp_(value, 1 - keep)

    def _standing(self) -> str:
        name = self._course.chosen_by
        return f"{name} {self.best[name]:.3f} at step {self.best['step']:.0f}"

    @property
    def _state(self) -> Path:
        return self._run.folder / self._course.files.state

    def _parts(self) -> dict[str, Any]:
        parts = {"module": self.module, "optimiser": self._optimiser, "schedule": self._schedule}
        return parts if self.averaged is self.module else {**parts, "averaged": self.averaged}

    def _resume(self) -> None:
        try:
            saved = torch.load(self._state, weights_only=True, map_location="cpu")
            saved = {_OLDER_NAMES.get(name, name): value for name, value in saved.items()}
            for name, part in self._parts().items():
                part.load_state_dict(saved[name])
            self.step, self.best, self._best_weights = saved["step"], saved["best"], saved["best_weights"]
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"{self._state} was left by a run of another recipe or release ({reason}); take another --run folder"
            ) from error

    def _keep(self, row: dict[str, float]) -> None:
        """Remember the best; log an evaluation and write all to disk, where this is the process that does."""
        name = self._course.chosen_by
        if row[name] >= self.best.get(name, -1.0):
            self.best = row
            self._best_weights = {name: value.detach().clone() for name, value in self.averaged.state_dict().items()}
        if self._run.processes.main:
            self._write(row)
        self._run.processes.wait()

    def _write(self, row: dict[str, float]) -> None:
        with (self._run.folder / self._course.files.log).open("a") as file:
            file.write(json.dumps(row) + "\n")
        logger.info("evaluated", extra=row)
        state = {name: part.state_dict() for name, part in self._parts().items()}
        staged = self._state.with_name(f"{self._state.name}.partial")
        torch.save({"step": self.step, **state, "best": self.best, "best_weights": self._best_weights}, staged)
        staged.replace(self._state)
