"""`threadmatch keys`: API keys of the service, made, listed and revoked. A running service follows by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from threadmatch.service.access.roles import EVERY_GALLERY, ROLES

if TYPE_CHECKING:
    from threadmatch.service.access.keys import StoredKey

keys_app = typer.Typer(help="API keys of the service: add, list, revoke.", no_args_is_help=True)

DEFAULT_FILE = Path("threadmatch-keys.json")
_FILE = typer.Option(
    "--keys", envvar="THREADMATCH_KEYS", help=f"The key file; THREADMATCH_KEYS, else {DEFAULT_FILE} here."
)
_JSON = typer.Option("--json", help="The result as JSON on stdout.")


@keys_app.command("add")
def add(
    *,
    role: Annotated[str, typer.Option(help="search, write (also changes items), admin, or metrics (/metrics only).")],
    gallery: Annotated[
        list[str] | None,
        typer.Option(help="A gallery that the key is for, by name; several are given one by one; '*' is every one."),
    ] = None,
    label: Annotated[str, typer.Option(help="Whose key it is, for the list.")] = "",
    keys: Annotated[Path, _FILE] = DEFAULT_FILE,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Make a key and show it, once. Without --gallery it is for the default gallery."""
    from threadmatch.service.access.keys import add_key
    from threadmatch.service.config import DEFAULT_GALLERY, GALLERY_NAME
    from threadmatch.service.errors import KeysError

    if role not in ROLES:
        _fail(f"--role {role!r}: expected one of {', '.join(ROLES)}", code=2)
    galleries = tuple(dict.fromkeys(gallery or [EVERY_GALLERY if role == "metrics" else DEFAULT_GALLERY]))
    for name in galleries:
        if name != EVERY_GALLERY and not GALLERY_NAME.fullmatch(name):
            _fail(f"--gallery {name!r} is not the name of a gallery: a-z, 0-9, - and _; '*' is every one", code=2)
    try:
        key, stored = add_key(keys, role=role, galleries=galleries, label=label)
    except KeysError as error:
        _fail(str(error))
    if as_json:
        print(json.dumps({"key": key, **_shown(stored), "file": str(keys.absolute())}))
        return
    print(key)
    typer.echo(
        f"Key {stored.id}: {stored.role} on {', '.join(stored.galleries)}. It is shown this once: {keys.absolute()} "
        f"has only its hash.\nServe with --keys {keys.absolute()}; clients send `Authorization: Bearer KEY`.",
        err=True,
    )


@keys_app.command("list")
def list_keys(*, keys: Annotated[Path, _FILE] = DEFAULT_FILE, as_json: Annotated[bool, _JSON] = False) -> None:
    """Show every key but its secret."""
    from rich.console import Console
    from rich.table import Table

    from threadmatch.service.access.keys import read_keys
    from threadmatch.service.errors import KeysError

    try:
        if not keys.exists():
            _fail(f"no key file at {keys.absolute()}; `threadmatch keys add` makes one")
        rows = [_shown(stored) for stored in read_keys(keys).keys]
    except (KeysError, OSError) as error:
        _fail(str(error))
    if as_json:
        print(json.dumps({"keys": rows, "file": str(keys.absolute())}))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "role", "galleries", "created", "revoked", "label"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(
            *(str(row[name] or "") for name in ("id", "role")),
            ", ".join(map(str, row["galleries"] if isinstance(row["galleries"], list) else [])),
            *(str(row[name] or "") for name in ("created", "revoked", "label")),
        )
    Console(markup=False, highlight=False).print(table)


@keys_app.command("revoke")
def revoke(
    identity: Annotated[str, typer.Argument(metavar="ID", help="As the list shows it.")],
    *,
    keys: Annotated[Path, _FILE] = DEFAULT_FILE,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """End a key. A running service refuses it from its next request on, and the sessions begun with it."""
    from threadmatch.service.access.keys import key_id, revoke_key
    from threadmatch.service.errors import KeysError

    try:
        stored = revoke_key(keys, key_id(identity) or identity)  # a whole key will do as well
    except KeysError as error:
        _fail(str(error))
    print(json.dumps(_shown(stored)) if as_json else f"key {stored.id} is revoked")


def _shown(stored: StoredKey) -> dict[str, object]:
    return stored.model_dump(mode="json", exclude={"sha256", "session_sha256"})


def _fail(message: str, code: int = 1) -> NoReturn:
    typer.echo(f"threadmatch keys: {message}", err=True)
    raise typer.Exit(code)
