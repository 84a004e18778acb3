"""The files of the checkout as the rules of the house see them: parsed once, asked rule by rule."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Final

from tests.support.checkout import ROOT

ROOMS: Final = ("model", "indexer", "service")
"""From the ground up: a room imports itself and those before it."""
MODULES: Final = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
SOURCES: Final = sorted([*MODULES, ROOT / "src" / "threadmatch" / "__init__.py", *(ROOT / "tests").rglob("*.py")])


def name(path: Path) -> str:
    """`model/grnet.py`, wherever the checkout is."""
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text("utf-8"), str(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of its tree; several rules look at each."""
    return tuple(ast.walk(tree(path)))


def dotted_name(node: ast.AST) -> str:
    """`a.b.c` of an expression that is a name of names, else ""; `ast.unparse` of every call takes seconds."""
    if isinstance(node, ast.Attribute):
        return f"{found}.{node.attr}" if (found := dotted_name(node.value)) else ""
    return node.id if isinstance(node, ast.Name) else ""


def for_each(paths: Iterable[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Make one test of a rule that every file keeps: one a file and rule would be thousands.

    It asks it of all files and says each that breaks it, with what the rule says of it.
    """

    def one_test(rule: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            broken: list[str] = []
            for path in paths:
                try:
                    rule(path)
                except AssertionError as error:
                    broken.append(f"{path}: {error}")
            if broken:
                raise AssertionError("\n".join(broken))

        test.__name__, test.__doc__ = rule.__name__, rule.__doc__
        return test

    return one_test
