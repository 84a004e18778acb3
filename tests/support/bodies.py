"""The same tests over another body: those of a module that need nothing but fixtures which both bodies have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any


def borrowed(module: ModuleType, *fixtures: str) -> dict[str, Callable[..., Any]]:
    """Tests by name, to be put among a module's own names: `globals().update(borrowed(test_search, "client"))`.

    Args:
        module: of tests.
        fixtures: that a test may ask for, at least the first of them; what it is parametrized with does not count.
    """
    found = {}
    for name, test in vars(module).items():
        if name.startswith("test_") and inspect.isfunction(test):
            asked = set(inspect.signature(test).parameters) - _parametrized(test)
            if fixtures[0] in asked and asked <= set(fixtures):
                found[name] = test
    assert found, f"{module.__name__} has no test of {fixtures}"
    return found


def _parametrized(test: Callable[..., Any]) -> set[str]:
    names: set[str] = set()
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            given = mark.args[0]
            names |= {name.strip() for name in given.split(",")} if isinstance(given, str) else set(given)
    return names
