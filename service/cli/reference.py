"""The reference pages of the documents' site, read off the service itself, so that nobody writes them by hand.

`docs/site/hooks.py` asks for them while the site is built; none is committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

METHODS = ("get", "put", "post", "patch", "delete")


def settings_page() -> str:
    """Every setting of the service as Markdown, a heading each, from `settings_table`."""
    from threadmatch.service.settings_table import settings_table

    parts = [
        "# Settings\n\nEvery setting of the service is an environment variable; an option of the same name on the "
        "command line wins. [threadmatch.env](../deploy/threadmatch.env) is the same as a file.\n"
    ]
    for name, possible, default, description in settings_table():
        parts.append(f"## `{name}`\n\n{_prose(description)}.\n\nPossible: `{possible}`. Default: `{default}`.\n")
    return "\n".join(parts)


def commands_page() -> str:
    """Every command with its arguments and options as Markdown, as `--help` says them."""
    import typer

    from threadmatch.service.cli import app
    from threadmatch.service.cli.plain_help import speak_plainly

    command: Any = typer.main.get_command(app)
    speak_plainly(command)
    parts = ["# Commands\n\nWhat `--help` of each command says. Exit status: 0 done, 1 failed, 2 wrong use.\n"]
    for path, one in _commands(command, ("threadmatch",)):
        parts.append(f"## `{' '.join(path)}`\n\n{_prose(one.help or '')}\n")
        context = one.make_context(path[-1], [], resilient_parsing=True)
        rows = [_option(parameter, context) for parameter in one.params if not getattr(parameter, "hidden", False)]
        if rows:
            parts.append(_table(("", "takes", "default", "what it is"), rows))
    return "\n".join(parts)


def api_page(described: Mapping[str, Any]) -> str:
    """Every route with its fields and answers as Markdown.

    Args:
        described: an OpenAPI document, such as docs/openapi.json.
    """
    parts = [f"# API\n\n{described['info']['description']}\nThe same as a file: [openapi.json](../openapi.json).\n"]
    for path, methods in described["paths"].items():
        for method in METHODS:
            if method in methods:
                parts.append(_route(method, path, methods[method], described))
    return "\n".join(parts)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not getattr(command, "commands", {}):
        yield path, command
    for name, below in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(below, (*path, name))


def _option(parameter: Any, context: Any) -> tuple[str, str, str, str]:
    names = [*parameter.opts, *parameter.secondary_opts]
    argument = parameter.param_type_name == "argument"
    name = parameter.metavar or parameter.name.upper() if argument else ", ".join(f"`{one}`" for one in names)
    default = parameter.get_default(context)
    if parameter.required:
        shown = "required"
    elif default is None or default is False or default in ("", [], ()) or callable(default):
        shown = ""
    else:
        shown = f"`{getattr(default, 'value', default)}`"
    takes = "" if getattr(parameter, "is_flag", False) else f"`{parameter.display_type(context)}`"
    return name, takes, shown, _prose(getattr(parameter, "help", None) or "")


def _route(method: str, path: str, route: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    parts = [f"## `{method.upper()} {path}`\n\n{route['summary']}.\n", route.get("description", "") + "\n"]
    rows = [
        (f"`{one['name']}`", one["in"], _kind(one["schema"]), _prose(one.get("description", "")))
        for one in route.get("parameters", [])
    ]
    for media, content in route.get("requestBody", {}).get("content", {}).items():
        schema = _resolved(content["schema"], described)
        for name, field in schema.get("properties", {}).items():
            rows.append((f"`{name}`", media, _kind(field), _prose(field.get("description", ""))))
    if rows:
        parts.append(_table(("field", "in", "kind", "what it is"), rows))
    for status, answer in sorted(route["responses"].items()):
        if status.startswith("2"):
            parts += _answer(status, answer, described)
    refused = [f"`{status}`" for status in sorted(route["responses"]) if status >= "300"]
    parts.append(f"Else: {', '.join(refused)}.\n")
    return "\n".join(parts)


def _answer(status: str, answer: Mapping[str, Any], described: Mapping[str, Any]) -> Iterator[str]:
    for media, content in answer.get("content", {}).items():
        yield f"`{status}`, {media}:\n"
        fields = _resolved(content.get("schema", {}), described).get("properties", {})
        if fields:
            rows = [(f"`{name}`", _kind(field), _prose(field.get("description", ""))) for name, field in fields.items()]
            yield _table(("field", "kind", "what it is"), rows)


def _resolved(schema: Mapping[str, Any], described: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = described
    for key in schema["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return found


def _kind(schema: Mapping[str, Any]) -> str:
    one_of = [_kind(choice) for choice in schema.get("anyOf", []) if choice.get("type") != "null"]
    kind = " or ".join(one_of) or schema.get("$ref", "").rpartition("/")[2] or str(schema.get("type", ""))
    if "enum" in schema:
        kind = ", ".join(f"`{value}`" for value in schema["enum"])
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        kind += f", {least:g} to {most:g}"
    return kind + (f"; default `{str(schema['default']).lower()}`" if schema.get("default") is not None else "")


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


def _prose(text: str) -> str:
    """One line, and nothing that Markdown would take for a tag."""
    return " ".join(text.split()).rstrip(".").replace("<", "&lt;")
