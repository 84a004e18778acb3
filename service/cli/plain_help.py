"""Help texts for people who do not write Python: `<text>` in place of `<str>`, nothing beside a switch."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final

_PLAIN: Final = (
    (re.compile(r"list\[(.*)\]"), r"\1"),
    (re.compile(r"\b(?:int|float)\b(?: range)?"), "number"),
    (re.compile(r"\bstr\b"), "text"),
    (re.compile(r"<bool>"), ""),
)


def speak_plainly(command: Any) -> None:
    """Let a command and those below it name what an option takes in plain words.

    Args:
        command: of `typer.main.get_command`, changed in place.
    """
    for parameter in command.params:
        _rename(parameter)
    command.get_help_option = partial(_help_option, command.get_help_option)
    for below in getattr(command, "commands", {}).values():
        speak_plainly(below)


def _rename(parameter: Any) -> Any:
    parameter.display_type = partial(_plain, type(parameter).display_type.__get__(parameter))  # a metavar stays
    return parameter


def _help_option(made: Any, ctx: Any) -> Any:
    option = made(ctx)
    return option if option is None else _rename(option)


def _plain(said: Any, ctx: Any) -> str:
    text = str(said(ctx))
    for python, plain in _PLAIN:
        text = python.sub(plain, text)
    return text
