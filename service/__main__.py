"""`python -m threadmatch.service`: serve as the THREADMATCH_* variables say."""

from __future__ import annotations

import typer

from threadmatch.service.cli.serve import serve
from threadmatch.service.process.collecting import collect_seldom
from threadmatch.service.process.threads import let_waiting_threads_sleep

if __name__ == "__main__":
    collect_seldom()
    let_waiting_threads_sleep()
    typer.run(serve)
