"""A run's curves as pictures and as TensorBoard events: loss, accuracy and reciprocal rank against the step.

Both are drawn from the phases' files alone, after the run, while it goes on, or years later; drawing
again replaces them.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from threadmatch.model.errors import DataError
from threadmatch.model.train.loop.run_folder import END_TO_END, FINETUNE, HEAD, KPM

logger = logging.getLogger(__name__)

PHASES = {FINETUNE.log: "finetune", END_TO_END.log: "end_to_end", HEAD.log: "", KPM.log: "kpm"}
"""File of each phase of a run, in order, and the folder of its events below EVENTS_FOLDER."""
EVENTS_FOLDER = "tensorboard"
PANELS = (("loss", "loss"), ("top1", "top-1 on val"), ("mrr", "MRR on val"), ("", "other figures"))
"""Beginning or end of a figure's name, and the title of its panel; what fits nowhere goes in the last."""

Curves = dict[str, list[tuple[int, float]]]
"""Steps and values of each figure, steps rising."""


@dataclass(frozen=True, slots=True)
class CurveFiles:
    """What was written; `events` is None where tensorboardX is not installed."""

    picture: Path
    events: Path | None


def write_curves(run_folder: Path) -> list[CurveFiles]:
    """Draw a run's curves: a picture beside each phase's file, and event files for `tensorboard --logdir`.

    Args:
        run_folder: holds the file of a phase at least, one JSON object an evaluation with a `step`.

    Returns:
        One for each phase that the run has begun.

    Raises:
        DataError: none of the files is there, one has no whole line, or matplotlib (extra `train`) is missing.
    """
    begun = [name for name in PHASES if (run_folder / name).exists()]
    if not begun:
        raise DataError(f"{run_folder} has none of {', '.join(PHASES)}; expected the folder of a training run")
    files = []
    for name in begun:
        curves = read_curves(run_folder / name)
        events = _write_events(curves, run_folder / EVENTS_FOLDER / PHASES[name])
        files.append(CurveFiles(_draw(curves, (run_folder / name).with_suffix(".png")), events))
    return files


def read_curves(path: Path) -> Curves:
    """Every numeric figure of a phase by name.

    A line that was cut off by a kill is passed over. A run that went on from an earlier step wrote some steps twice:
    the later line counts.

    Raises:
        DataError: no such file, or not one whole line in it.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); expected the folder of a training run") from error
    rows: dict[int, dict[str, float]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows[int(row["step"])] = {
                name: float(value)
                for name, value in row.items()
                if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
            }
        except (ValueError, KeyError, TypeError):
            logger.warning("line passed over", extra={"file": str(path), "line": number})
    if not rows:
        raise DataError(f"{path} has no line with a step; expected one JSON object an evaluation")
    curves: Curves = {}
    for step in sorted(rows):
        for name, value in rows[step].items():
            curves.setdefault(name, []).append((step, value))
    return curves


def _panel(name: str) -> str:
    for part, title in PANELS:
        if name.startswith(part) or name.endswith(part):
            return title
    raise AssertionError("the last panel takes everything")


def _draw(curves: Curves, path: Path) -> Path:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DataError("drawing curves needs matplotlib: install threadmatch with the extra `train`") from error
    drawn = {name: points for name, points in curves.items() if name != "seconds"}
    panels = [title for _, title in PANELS if any(_panel(name) == title for name in drawn)]
    figure = Figure(figsize=(5.5 * max(1, len(panels)), 4), layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state of pyplot
    axes = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
    for axis, title in zip(axes, panels, strict=False):
        for name, points in sorted(drawn.items()):
            if _panel(name) == title:
                axis.plot(*zip(*points, strict=True), label=name, marker=".")
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    staged = path.with_name(f".{path.name}.partial")
    figure.savefig(staged, format="png", dpi=110)
    staged.replace(path)
    return path


def _write_events(curves: Curves, folder: Path) -> Path | None:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        logger.warning("no TensorBoard events: tensorboardX, of the extra `train`, is not installed")
        return None
    for old in folder.glob("events.out.tfevents.*"):  # event files add up: two drawings would show twice
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        for name, points in curves.items():
            for step, value in points:
                writer.add_scalar(name.replace("_", "/", 1), value, step)
    return folder
