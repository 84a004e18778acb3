"""`python -m service`: serve as the THREADMATCH_* variables say."""

from __future__ import annotations

import typer

from service.cli.serve import serve

if __name__ == "__main__":
    typer.run(serve)
