"""Real engines of a cluster on this machine, for tests and the failure run: Redis, Redis Cluster, Milvus.

Each is a process with a folder of its own. It keeps what it has there, so one that is killed and started again goes on.
Redis is Debian's `redis-server`; Milvus's server is in the package `milvus` of the registry.

    python -m threadmatch.service.bench.engines engines

starts one of each in the folder `engines`, for as long as it runs, and writes `engines/cluster.toml`.
"""

from __future__ import annotations

import argparse
import importlib.util
import lzma
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from threadmatch.service.bench.hosts import LOCAL, Host

START_S: Final = 240
LOG: Final = "log.txt"
_DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
"""A write is in the log before it is answered."""


def lacking_redis() -> str:
    """Why no Redis can be used here; "" where one can."""
    if importlib.util.find_spec("redis") is None or importlib.util.find_spec("pymilvus") is None:
        return "the extra `cluster` is not installed"
    return "" if shutil.which("redis-server") else "no redis-server here"


def lacking_milvus() -> str:
    """Why no Milvus can be used here; "" where one can."""
    return lacking_redis() or ("" if importlib.util.find_spec("milvus") else "the package `milvus` is not installed")


def free_port() -> int:
    """Of loopback, such that the port 10,000 above is one too: a Redis Cluster uses both."""
    while True:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = int(listening.getsockname()[1])
        if port < 55_000:
            return port


def until(ready: Callable[[], bool], what: str) -> None:
    """Wait for a state that stays once it is reached; TimeoutError after START_S."""
    end = time.monotonic() + START_S
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {START_S} s")
        time.sleep(0.05)


@dataclass
class Server:
    """One engine's process.

    Fields:
        command: starts it.
        folder: it works in, its log (LOG) too.
        port: where it answers.
        answers: whether it does.
        environment: beside this process's own.
        host: where it runs.
    """

    command: list[str]
    folder: Path
    port: int
    answers: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)
    host: Host = LOCAL
    process: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> str:
        """host:port, as clients call it."""
        return f"{self.host.address}:{self.port}"

    def begin(self) -> None:
        """Start it, and do not wait."""
        with (self.folder / LOG).open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line
                [*self.host.inside, *self.command],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def wait(self) -> None:
        """Until it answers; ChildProcessError with the end of its log where it ended."""
        until(self._answers, f"{self.command[0]} answers at {self.place}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.begin()
        self.wait()

    def is_up(self) -> bool:
        """Whether it runs and answers."""
        return self.process is not None and self.process.poll() is None and self.answers()

    def kill(self) -> None:
        """With -9, and all that it started."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            said = (self.folder / LOG).read_text("utf-8", "replace")[-2000:]
            raise ChildProcessError(f"{self.command[0]} has ended: {said}")
        return self.answers()


@contextmanager
def running(*servers: Server) -> Iterator[None]:
    """Start servers; kill them at the end."""
    try:
        for server in servers:
            server.begin()
        for server in servers:
            server.wait()
        yield
    finally:
        for server in servers:
            server.kill()


def redis(folder: Path, *options: str, host: Host = LOCAL) -> Server:
    """A Redis, not started yet.

    Args:
        folder: for what it keeps; made when missing.
        options: of `redis-server`, beside those that make writes durable.
        host: where it is to run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    program = shutil.which("redis-server") or "redis-server"
    reach = ["--bind", host.address, "--protected-mode", "no" if host.inside else "yes"]
    command = [program, "--port", str(port), "--dir", str(folder), *reach, *_DURABLE, *options]
    place = (host.address, port)
    return Server(command, folder, port, lambda: _asked(place, b"PING\r\n").startswith(b"+PONG"), host=host)


def redis_cluster(folder: Path, *, masters: int = 3, replicas: int = 1, on: Sequence[Host] = (LOCAL,)) -> list[Server]:
    """Masters, then their replicas, on hosts by turns: started and joined.

    Where there are as many hosts as masters, a master and its replicas are on different ones.
    """
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0")
    servers = []
    for number in range((1 + replicas) * masters):
        host = on[number % len(on)]  # a node of 127.0.0.2 calls others from 127.0.0.1, and would be known by that
        servers.append(redis(folder / str(number), *options, "--cluster-announce-ip", host.address, host=host))
    try:
        for server in servers:
            server.begin()
        for server in servers:
            server.wait()
        nodes = [server.place for server in servers]
        join = ["redis-cli", "--cluster", "create", *nodes, "--cluster-replicas", str(replicas), "--cluster-yes"]
        subprocess.run(join, check=True, capture_output=True, timeout=START_S)  # noqa: S603
        until(lambda: is_whole(servers), "the Redis Cluster is whole")
    except BaseException:
        for server in servers:
            server.kill()
        raise
    return servers


def milvus(folder: Path, programs: Path, *, host: Host = LOCAL) -> Server:
    """A Milvus of one process, not started yet.

    Args:
        folder: for what it keeps; made when missing.
        programs: where its program is unpacked to, once for all that come.
        host: where it is to run.
    """
    import milvus as package

    folder.mkdir(parents=True, exist_ok=True)
    _unpack(Path(package.__file__).parent / "data" / "bin", programs)
    config: Any = package.MilvusServerConfig()
    etcd, health = free_port(), free_port()
    config.set("queryNode.segcore.interimIndex.enableIndex", False)  # docs/cluster.md says why
    config.configs.update(data_dir=str(folder), proxy_port=str(free_port()), etcd_port=str(etcd))
    config.resolve()  # finds free ports for the others, and writes its settings
    _use_own_etcd(folder, etcd)
    environment = {
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": str(health),
        "MILVUS_RUN_DIR": str(folder / "run"),
        "LD_LIBRARY_PATH": str(programs),
    }
    return Server(
        [str(programs / "milvus"), "run", "standalone"],
        folder,
        int(config.get("proxy_port")),
        lambda: b"OK" in _asked((host.address, health), b"GET /healthz HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")[2],
        environment,
        host,
    )


def settings_file(folder: Path, *, stores: list[Server], milvus: Server | None = None, **of_store: object) -> Path:
    """Write a cluster's settings; their path.

    Args:
        folder: for the file, and for staging.
        stores, milvus: the engines.
        of_store: further settings of the store.
    """
    nodes = ", ".join(f'"{server.place}"' for server in stores)
    more = "\n".join(f"{name} = {str(value).lower()}" for name, value in of_store.items())
    uri = f"http://{'127.0.0.1:1' if milvus is None else milvus.place}"
    path = folder / "cluster.toml"
    path.write_text(
        f'staging = "{folder}/staging"\n[milvus]\nuri = "{uri}"\n[store]\nnodes = [{nodes}]\n{more}\n', "utf-8"
    )
    return path


def _use_own_etcd(folder: Path, port: int) -> None:
    """Give the etcd inside ports of its own: it would take the same one in every Milvus of a machine."""
    client, peer = f"http://localhost:{port}", f"http://localhost:{free_port()}"
    own = folder / "configs" / "etcd.yaml"
    own.write_text(
        f"name: default\ndata-dir: {folder}/data/etcd.data\nlisten-client-urls: {client}\n"
        f"advertise-client-urls: {client}\nlisten-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\n"
        f"initial-cluster: default={peer}\n",
        "utf-8",
    )
    settings = folder / "configs" / "milvus.yaml"
    text = settings.read_text("utf-8")
    settings.write_text(text.replace("\netcd:\n", f"\netcd:\n  config:\n    path: {own}\n", 1), "utf-8")


def _unpack(packed: Path, programs: Path) -> None:
    for source in packed.glob("*.lzma"):
        target = programs / source.stem
        if not target.exists():
            programs.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{target.name}.{os.getpid()}")
            with lzma.open(source) as read, partial.open("wb") as write:
                shutil.copyfileobj(read, write)
            partial.chmod(0o755)
            partial.replace(target)


def _asked(place: tuple[str, int], question: bytes) -> bytes:
    """What is said there to a question, until it pauses or closes; b"" where nobody is there."""
    try:
        with socket.create_connection(place, timeout=2) as connection:
            connection.sendall(question)
            said = b""
            while part := connection.recv(4096):
                said += part
                if said.startswith(b"+"):
                    break
            return said
    except OSError:
        return b""


def masters_of(servers: Sequence[Server]) -> list[Server]:
    """Those nodes of a Redis Cluster that are masters now."""
    import redis as client

    found = []
    for server in servers:
        with client.Redis(server.host.address, server.port, socket_timeout=2) as node:
            role: Any = node.execute_command("ROLE")
            if role[0] == b"master":
                found.append(server)
    return found


def is_whole(servers: Sequence[Server]) -> bool:
    """Whether every node of a Redis Cluster sees all slots served and, as a replica, follows its master."""
    import redis as client

    try:
        for server in servers:
            with client.Redis(server.host.address, server.port, socket_timeout=2) as node:
                state: Any = node.execute_command("CLUSTER INFO")
                linked: Any = node.info("replication")
            said = state.decode() if isinstance(state, bytes) else str(state)
            if "ok" not in said.partition("cluster_state")[2][:8] or linked.get("master_link_status", "up") != "up":
                return False
    except (client.RedisError, OSError):
        return False
    return True


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="A Redis and a Milvus on this machine, until Ctrl-C.")
    parser.add_argument("folder", type=Path, help="for what they keep; made when missing")
    folder = parser.parse_args().folder.resolve()
    if reason := lacking_milvus():
        sys.exit(f"cannot start: {reason}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    store = redis(folder / "redis")
    try:
        with running(store):
            vectors = milvus(folder / "milvus", Path.home() / ".cache" / "threadmatch" / "milvus")
            with running(vectors):
                settings = settings_file(folder, stores=[store], milvus=vectors)
                print(f"both run; name a gallery cluster://NAME@{settings}", flush=True)
                signal.pause()
    except KeyboardInterrupt:
        print("both ended; what they hold stays in the folder", flush=True)


if __name__ == "__main__":
    main()
