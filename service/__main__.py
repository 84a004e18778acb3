"""`python -m service`: serve as the THREADMATCH_* variables say."""

from __future__ import annotations

import typer

from service.cli.serve import serve
from service.threads import let_waiting_threads_sleep

if __name__ == "__main__":
    let_waiting_threads_sleep()
    typer.run(serve)
