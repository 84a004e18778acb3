"""The settings as people read them: in `serve --help`, in `deploy/threadmatch.env`, in the documents' tests."""

from __future__ import annotations

from threadmatch.service.config import Settings, value_range, variable


def settings_table() -> list[tuple[str, str, str, str]]:
    """(variable, range, default, description) of every setting, for `serve --help` and the README."""
    return [
        (
            variable(name),
            value_range(field),
            "required" if field.is_required() else _shown(field.get_default(call_default_factory=True)),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def shown_default(name: str) -> str:
    """The default of a setting as help texts have it; "" where there is none, or no such setting."""
    field = Settings.model_fields.get(name)
    if field is None or field.is_required():
        return ""
    default = field.get_default(call_default_factory=True)
    return "" if default in ("", {}, (), None) or isinstance(default, bool) else str(default)


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if default not in ("", {}, (), None) else "(empty)"
