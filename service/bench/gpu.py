"""One run that checks and measures everything on a GPU, in at most 8 minutes, and writes one JSON file.

    python -m threadmatch.service.bench.gpu --out gpu.json      (make bench-gpu)
    python -m threadmatch.service.bench.gpu --interpret --out checks.json

Each section runs in a process of its own with a limit of its own: one that hangs, crashes or leaves CUDA broken costs
itself, and the file says why. The file is written anew after each. Without a GPU it says so and ends with 1;
`--interpret` runs what can be checked there, the kernels in Triton's interpreter.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from threadmatch.model.errors import CheckpointError
from threadmatch.model.inference import chosen_device
from threadmatch.model.speed import machine
from threadmatch.service.bench.gpu_sections import SECTIONS, Scope

LONGEST_S: Final = 470.0
"""Of the whole run; ten seconds are left to begin and to end."""
LEAST_S: Final = 10.0
"""A section that has less left is not begun."""
GRACE_S: Final = 8.0
"""Between asking a section to end, which stops its service, and killing it."""
TAIL: Final = 2000
"""Characters of a failed section's output that are kept."""


def scope_of(*, interpret: bool, work: Path) -> Scope:
    """How much is done, on a GPU or in the interpreter."""
    if interpret:
        return Scope(device="cpu", pairs=3, queries=0, items=0, gallery_items=0, index_items=0, seconds=0.0, work=work)
    return Scope(
        device="cuda",
        pairs=64,
        queries=300,
        items=60,
        gallery_items=400,
        index_items=200_000,
        seconds=6.0,
        work=work,
    )


def run_sections(names: Sequence[str], *, interpret: bool, work: Path, out: Path) -> dict[str, Any]:
    """Run sections one after another, and write what came of them.

    Args:
        names: of SECTIONS.
        interpret: on the CPU, in Triton's interpreter.
        work: folder for what they draw and serve.
        out: JSON file; replaced after each section.

    Returns:
        What the file holds: `passed` where no section failed, and by section its seconds, its result or its error.
    """
    started = time.monotonic()
    result: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "threadmatch.service.bench.gpu", *sys.argv[1:]]),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "interpreted": interpret,
        "passed": True,
        "sections": {},
    }
    for name in names:
        left = LONGEST_S - (time.monotonic() - started)
        begun = time.monotonic()
        section = (
            run_section(name, limit_s=min(left, SECTIONS[name].limit_s), interpret=interpret, work=work)
            if left >= LEAST_S
            else {"passed": False, "error": "not begun: no time was left"}
        )
        result["sections"][name] = {"seconds": round(time.monotonic() - begun, 1)} | section
        result["passed"] = result["passed"] and section["passed"]
        result["seconds"] = round(time.monotonic() - started, 1)
        _write(out, result)
        print(f"{name}: {_in_short(section)} ({result['sections'][name]['seconds']} s)", file=sys.stderr, flush=True)
    return result


def run_section(name: str, *, limit_s: float, interpret: bool, work: Path) -> dict[str, Any]:
    """One section in a process of its own.

    Returns:
        `passed`, and `result` or `error`.
    """
    found, log = work / f"{name}.json", work / f"{name}.log"
    found.unlink(missing_ok=True)
    command = [sys.executable, "-m", "threadmatch.service.bench.gpu", "--section", name, "--out", str(found)]
    environment = {**os.environ, "TRITON_INTERPRET": "1" if interpret else "0"}
    with log.open("w") as said:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, "--work", str(work), *(["--interpret"] if interpret else [])],
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        error = _wait(process, limit_s)
    if not error and process.returncode:
        error = f"ended with exit code {process.returncode}"
    if error:
        return {"passed": False, "error": error, "said": log.read_text("utf-8", "replace")[-TAIL:]}
    result = json.loads(found.read_text("utf-8"))
    return {"passed": result.pop("passed", True), "result": result}


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> str:
    """Until it ends; "" or why it was ended."""
    try:
        process.wait(timeout=limit_s)
        return ""
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return f"took longer than its {limit_s:.0f} s"


def _in_short(section: dict[str, Any]) -> str:
    if "error" in section:
        return f"failed, {section['error']}"
    return "passed" if section["passed"] else "FAILED"


def _write(out: Path, result: dict[str, Any]) -> None:
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    partial.replace(out)


def main() -> None:
    """The command line; exit code 0 where every section passed, 1 else, 2 for wrong use."""
    parser = argparse.ArgumentParser(description="Check and measure everything on a GPU, in at most 8 minutes.")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="JSON file to write")
    parser.add_argument(
        "--interpret", action="store_true", help="check the kernels on the CPU, in Triton's interpreter"
    )
    parser.add_argument("--work", type=Path, help="folder for what is drawn and served; else a temporary one")
    parser.add_argument("--section", choices=SECTIONS, help="this one alone, in this process")
    given = parser.parse_args()
    if not given.interpret:
        try:
            chosen_device("cuda")
        except CheckpointError as error:
            sys.exit(f"bench-gpu: {error.args[0].partition(';')[0]}; --interpret checks the kernels on the CPU")
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        if given.section:
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a service that it started is stopped
            _write(given.out, SECTIONS[given.section].run(scope_of(interpret=given.interpret, work=work)))
            return
        names = [name for name, section in SECTIONS.items() if section.interpreted or not given.interpret]
        result = run_sections(names, interpret=given.interpret, work=work, out=given.out.resolve())
    sys.exit(0 if result["passed"] else 1)


if __name__ == "__main__":
    main()
