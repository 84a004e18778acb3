"""Hosts of a cluster on one machine: network namespaces with a cable each, so that one can be pulled.

    this process  ----  bridge 10.77.0.254  ----  host-1 10.77.0.1
                                            ----  host-2 10.77.0.2   ...

`enter_own_network` starts the program again in a network, a process tree and mounts of its own (Linux's `unshare`), so
nothing of this is seen outside, and all of it ends with the program, however that ends. It needs root, or a kernel that
lets users have namespaces. Where it cannot be had, hosts are addresses of loopback, and one that nobody reaches is one
whose processes are stopped.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_INSIDE: Final = "NETWORK_OF_THREADMATCH_BENCH"
"""Set in the environment of the program that has a network of its own."""
_NETWORK: Final = "10.77.0"
_START_S: Final = 30


@dataclass(frozen=True, slots=True)
class Host:
    """A machine, or what stands for one.

    Fields:
        name: of it.
        address: where its servers listen.
        inside: begins a command line that is to run there.
        cable: the interface that leads to it, "" where there is none to pull.
    """

    name: str
    address: str
    inside: tuple[str, ...] = ()
    cable: str = ""


LOCAL: Final = Host("this machine", "127.0.0.1")


def enter_own_network(module: str, arguments: Sequence[str]) -> str:
    """Start this program again in a network of its own, in place of this process.

    Args:
        module: of the program, as after `python -m`.
        arguments: of its command line.

    Returns:
        Why that is impossible; "" where it has one. Where it is possible, it does not come back.
    """
    if os.environ.get(_INSIDE):
        return ""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"no program `{tool}` (packages util-linux and iproute2)"
    own = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net", "--mount", "--pid", "--fork"]
    own += ["--kill-child", "--mount-proc"]
    tried = subprocess.run(  # noqa: S603 - our own command lines, here and below
        [*own, "ip", "link", "add", "tried", "type", "bridge"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        return f"no network of one's own: {tried.stderr.strip()[-200:]}"
    os.environ[_INSIDE] = "1"
    return os.execvp(own[0], [*own, sys.executable, "-m", module, *arguments])  # noqa: S606


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Hosts: behind cables in a network of our own (`enter_own_network`), else addresses of loopback.

    Args:
        count: how many, 250 at most.
    """
    if not os.environ.get(_INSIDE):
        yield [Host(f"host-{number}", f"127.0.0.{number}") for number in range(1, count + 1)]
        return
    _ip("link", "set", "lo", "up")
    _ip("link", "add", "hosts", "type", "bridge")
    _ip("address", "add", f"{_NETWORK}.254/24", "dev", "hosts")
    _ip("link", "set", "hosts", "up")
    with ExitStack() as ending:
        yield [_connected(number, ending) for number in range(1, count + 1)]


@contextmanager
def out_of_reach(host: Host, groups: Sequence[int]) -> Iterator[None]:
    """Pull a host's cable and put it back; where it has none, stop its processes and let them go on.

    Args:
        host: which.
        groups: of the processes that run on it.
    """
    if host.cable:
        _ip("link", "set", host.cable, "down")
    else:
        _signalled(groups, signal.SIGSTOP)
    try:
        yield
    finally:
        if host.cable:
            _ip("link", "set", host.cable, "up")
        else:
            _signalled(groups, signal.SIGCONT)


def _signalled(groups: Sequence[int], which: signal.Signals) -> None:
    for group in groups:
        try:
            os.killpg(group, which)
        except ProcessLookupError:  # it ended meanwhile, or was killed
            continue


def _connected(number: int, ending: ExitStack) -> Host:
    """A network namespace, held by a process that sleeps, with a cable to the bridge."""
    name, cable = f"host-{number}", f"cable-{number}"
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)  # noqa: S607
    ending.callback(holder.wait)
    ending.callback(holder.kill)
    ours, deadline = Path("/proc/self/ns/net").readlink(), time.monotonic() + _START_S
    while Path(f"/proc/{holder.pid}/ns/net").readlink() == ours:
        if holder.poll() is not None or time.monotonic() > deadline:
            raise ChildProcessError(f"{name} got no network of its own")
        time.sleep(0.01)
    inside = ("nsenter", "--target", str(holder.pid), "--net", "--")
    _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
    _ip("link", "set", cable, "master", "hosts", "up")
    _ip("address", "add", f"{_NETWORK}.{number}/24", "dev", "eth0", inside=inside)
    for interface in ("lo", "eth0"):
        _ip("link", "set", interface, "up", inside=inside)
    return Host(name, f"{_NETWORK}.{number}", inside, cable)


def _ip(*words: str, inside: Sequence[str] = ()) -> None:
    done = subprocess.run([*inside, "ip", *words], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise ChildProcessError(f"ip {' '.join(words)}: {done.stderr.strip()}")
