"""Where training runs: one process on the CPU, or as many as `torchrun` started, each on a GPU where there are any."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from threadmatch.model.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of one training run. All take the same steps, and `main` alone writes.

    Fields:
        device: of this process.
        rank: of this process, 0..count - 1.
        count: of processes.
        accelerator: speaks to the others; None where there are none and no GPU.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    count: int = 1
    accelerator: Accelerator | None = None

    @classmethod
    def start(cls) -> Processes:
        """Join the processes that the environment names.

        Raises:
            ConfigError: there are several or a GPU, and accelerate (extra `train`) is not installed.
        """
        if not torch.cuda.is_available() and int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise ConfigError(
                "training on GPUs or in several processes needs accelerate: install threadmatch with the extra `train`"
            ) from error
        # It joins several processes on CPUs only when told to use the CPU.
        accelerator = Accelerator(cpu=not torch.cuda.is_available())
        return cls(accelerator.device, accelerator.process_index, accelerator.num_processes, accelerator)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, garments: int) -> int:
        """Garments of a step that each process draws: two at least, or there is nothing to tell apart.

        Raises:
            ConfigError: there are more processes than that allows.
        """
        if garments < 2 * self.count:
            raise ConfigError(
                f"{garments} queries a step are too few for {self.count} processes; each needs two at least"
            )
        return garments // self.count

    def shared(self, module: nn.Module) -> nn.Module:
        """The module as one whose gradients are averaged over all processes (DistributedDataParallel)."""
        if self.accelerator is None:
            return module
        prepared: nn.Module = self.accelerator.prepare_model(module)
        return prepared

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process does it while the others wait; then they find its files."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()

    def wait(self) -> None:
        """Until all are here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()

    def end(self) -> None:
        """Leave the others."""
        if self.accelerator is not None:
            self.accelerator.end_training()
