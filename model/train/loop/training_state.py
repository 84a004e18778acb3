"""What goes on from step to step in training a backbone, and on disk from evaluation to evaluation."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from threadmatch.model.errors import ConfigError
from threadmatch.model.train.loop.torchrun import Processes

logger = logging.getLogger(__name__)

SMALLEST_SIZE = 1e-3
"""A tensor counts as at least this large, so that one that begins at zero can move."""


M = TypeVar("M", bound=nn.Module)


def state_of(log: Path) -> Path:
    """Where the state of the phase with this log stands."""
    return log.with_suffix(".pt")


@dataclass(slots=True)
class Session(Generic[M]):
    """A module in training, its averaged weights, and the best of them.

    Fields:
        module: that is trained.
        optimiser, schedule: of its parameters.
        average: of the weights, exponential; 0: as they are.
        chosen_by: the figure by which the best weights are kept.
        log: a line an evaluation; the state stands beside it as .pt.
        processes: that train together.
        clip: largest norm of a step's gradient; 0: any.
    """

    module: M
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    average: float
    chosen_by: str
    log: Path
    processes: Processes
    clip: float = 1.0
    step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    averaged: M = field(init=False)

    def __post_init__(self) -> None:
        """Go on where an earlier run in the same folder stopped, if there is one.

        Raises:
            ConfigError: it was a run of another recipe or release.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.averaged = copy.deepcopy(self.module).requires_grad_(False)
        if self._state.exists():
            with of_this_recipe(self._state):
                saved = torch.load(self._state, weights_only=True, map_location="cpu")
                for name, part in self._parts().items():
                    part.load_state_dict(saved[name])
                self.step, self.best, self.best_weights = saved["step"], saved["best"], saved["best_weights"]
        self.processes.wait()  # all have read what an earlier run left before one writes

    @property
    def _state(self) -> Path:
        return state_of(self.log)

    def _parts(self) -> dict[str, Any]:
        return {
            "module": self.module,
            "averaged": self.averaged,
            "optimiser": self.optimiser,
            "schedule": self.schedule,
        }

    def run(
        self,
        steps: int,
        *,
        losses: Callable[[int], dict[str, Tensor]],
        evaluate: Callable[[M], dict[str, float]],
        every: int,
        after_evaluation: Callable[[int, dict[str, float]], None] | None = None,
    ) -> dict[str, float]:
        """Train up to `steps`, and put the best averaged weights into the module, on the CPU.

        Args:
            steps: of the whole training, those of an earlier run counted in.
            losses: of a step by its number; `total` is what is brought down.
            evaluate: the figures of a module.
            every: so many steps an evaluation; there is one at the start and one at the end.
            after_evaluation: called with the step and its figures.

        Returns:
            The best figures.
        """
        if self.step == 0 and not self.best:
            self.keep({"step": 0, **evaluate(self.averaged)})
        started = time.monotonic()
        while self.step < steps:
            found = losses(self.step)
            self.advance(found["total"])
            if self.step % every == 0 or self.step == steps:
                row = {"step": self.step, "seconds": time.monotonic() - started}
                row |= {f"loss_{name}": float(value.detach()) for name, value in found.items()}
                row |= evaluate(self.averaged)
                self.keep(row)
                if after_evaluation:
                    after_evaluation(self.step, row)
        self.module.load_state_dict(self.best_weights)
        self.module.to("cpu").eval()
        return self.best

    def advance(self, loss: Tensor) -> None:
        """One step of the optimiser, and of the average."""
        self.optimiser.zero_grad()
        loss.backward()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.optimiser.step()
        self.schedule.step()
        self.step += 1
        keep = min(self.average, (1 + self.step) / (10 + self.step))  # at first there is little to average
        with torch.no_grad():
            for average, value in zip(
                self.averaged.state_dict().values(), self.module.state_dict().values(), strict=True
            ):
                if average.is_floating_point():  # batch norm's statistics too
                    average.lerp_(value, 1 - keep)

    def keep(self, row: dict[str, float]) -> None:
        """Remember the best; log an evaluation and write all to disk, where this is the process that does."""
        if row[self.chosen_by] >= self.best.get(self.chosen_by, -1.0):
            self.best = row
            self.best_weights = {name: value.detach().clone() for name, value in self.averaged.state_dict().items()}
        if self.processes.main:
            self._write(row)
        self.processes.wait()

    def _write(self, row: dict[str, float]) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        logger.info("evaluated", extra=row)
        state = {name: part.state_dict() for name, part in self._parts().items()}
        staged = self._state.with_name(f"{self._state.name}.partial")
        torch.save({"step": self.step, **state, "best": self.best, "best_weights": self.best_weights}, staged)
        staged.replace(self._state)


@contextmanager
def of_this_recipe(state: Path) -> Iterator[None]:
    """Read what an unfinished run left.

    Raises:
        ConfigError: it does not fit the network that is trained now.
    """
    try:
        yield
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{state} was left by a run of another recipe or release ({reason}); take another --run folder"
        ) from error


BLEND_PACE = 20.0
"""The blend's weights are as large as this, and learn that much faster than others, which are below one."""

Group = dict[str, Any]
"""Of an optimiser's parameters."""


def relative_groups(module: nn.Module, *, rate: float, weight_decay: float) -> list[Group]:
    """For AdamW: a rate that is a share of each tensor's own size (root mean square).

    One step moves a weight by that much of itself. The sizes of layers differ by a factor of a hundred, and an absolute
    rate that one of them needs tears another apart within twenty steps.
    """
    return [
        {
            "params": [p],
            "lr": rate * max(float(p.detach().square().mean().sqrt()), SMALLEST_SIZE),
            "weight_decay": weight_decay if p.ndim > 1 else 0.0,
        }
        for p in module.parameters()
    ]


def head_groups(parts: nn.Module, *, rate: float, weight_decay: float) -> list[Group]:
    """For AdamW: decay matrices; leave biases, the blend and other vectors alone."""
    named = [(name.rpartition(".")[2], p) for name, p in parts.named_parameters()]
    groups: list[Group] = [
        {"params": [p for _, p in named if p.ndim > 1], "lr": rate, "weight_decay": weight_decay},
        {"params": [p for name, p in named if p.ndim <= 1 and name != "blend"], "lr": rate, "weight_decay": 0.0},
    ]
    blend = [p for name, p in named if name == "blend"]
    if blend:
        groups.append({"params": blend, "weight_decay": 0.0, "lr": BLEND_PACE * rate})
    return groups


def cosine_after_warm_up(
    optimiser: torch.optim.Optimizer, *, steps: int, warm_up: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """A rate that rises for `warm_up` steps under half a cosine that ends at zero."""

    def part(step: int) -> float:
        return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, part)
