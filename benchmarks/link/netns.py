"""The same conditions by the kernel's own means: a network namespace behind a veth pair, with `tc netem` on both ends.

It takes root, iproute2 and a kernel with netem, which many virtual machines and containers lack: `python -m benchmarks.link` says what is
missing here. `python -m benchmarks.latency --netns` uses it; without `--netns` the network is the proxy in `proxy.py`, which takes nothing.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from benchmarks.link.conditions import Conditions, Direction

__all__ = ["Namespace", "missing"]

_CLONE_NEWNET = 0x40000000
_TOOLS = ("ip", "tc")


def missing() -> str | None:
    """Why it cannot be done here, in a line; None: it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "it takes root, to make network namespaces"
    if lacking := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"no {' and no '.join(lacking)} (Debian: iproute2)"
    try:
        with Namespace(Conditions(), 0):
            return None
    except subprocess.CalledProcessError as exc:
        said = f"`{' '.join(exc.cmd)}` says: {' '.join(exc.stderr.split())}"
        return f"this kernel has no netem (module sch_netem): {said}" if "netem" in exc.cmd else f"root may not do it here: {said}"
    except OSError as exc:
        return f"root may not do it here: {exc}"


class Namespace:
    """A namespace of number `index`, whose sockets reach this machine's loopback-bound services at `host`; a context manager.

    A stall is a loss of everything, which TCP meets with its own timers: this is what the proxy leaves out.
    """

    def __init__(self, conditions: Conditions, index: int) -> None:
        self.conditions = conditions
        self.host = f"10.213.{index}.1"
        self._name = f"streamcodec-{os.getpid()}-{index}"
        self._here, self._there = f"scl{os.getpid() % 100000}h{index}", f"scl{os.getpid() % 100000}t{index}"
        self._address = f"10.213.{index}.2"
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        # Its one thread lives in the namespace, and what it opens stays there.
        self._inside = ThreadPoolExecutor(1, thread_name_prefix="namespace")

    def __enter__(self) -> Self:
        _do("ip", "netns", "add", self._name)
        try:
            _do("ip", "link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self._name)
            _do("ip", "address", "add", f"{self.host}/30", "dev", self._here)
            _do("ip", "link", "set", self._here, "up")
            _do("ip", "-n", self._name, "address", "add", f"{self._address}/30", "dev", self._there)
            _do("ip", "-n", self._name, "link", "set", self._there, "up")
            self._shape("add", -math.inf)
            self._inside.submit(_enter, self._name).result()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._inside.shutdown()
        # With the namespace its end of the pair goes, and so does ours.
        subprocess.run(["ip", "netns", "delete", self._name], check=False, capture_output=True)

    def socket(self) -> socket.socket:
        """A TCP socket that lives in the namespace."""
        return self._inside.submit(socket.socket).result()

    def begin(self, at: float) -> None:
        """Follow the conditions from `at` (`time.perf_counter`) on."""

        def follow() -> None:
            for change in _changes(self.conditions):
                if self._over.wait(max(0.0, at + change - time.perf_counter())):
                    return
                self._shape("change", change)

        self._thread = threading.Thread(target=follow, daemon=True)
        self._thread.start()

    def _shape(self, verb: str, t: float) -> None:
        # What leaves our end goes to the client: its down direction.
        _do("tc", "qdisc", verb, "dev", self._here, "root", *netem(self.conditions.down, t))
        _do("tc", "-n", self._name, "qdisc", verb, "dev", self._there, "root", *netem(self.conditions.up, t))


def netem(direction: Direction, t: float) -> list[str]:
    """netem's words for what a direction does at `t`."""
    words = ["netem", "limit", "1000", "delay", f"{1e6 * direction.delay_s:.0f}us"]
    jitter_s = direction.jitter_at(t)
    if jitter_s:
        # netem draws around the delay, we above it.
        words[-1] = f"{1e6 * (direction.delay_s + jitter_s / 2):.0f}us"
        words.append(f"{1e6 * jitter_s / 2:.0f}us")
    rate = direction.rate_at(t)
    if rate == 0.0:
        words += ["loss", "100%"]
    elif rate < math.inf:
        words += ["rate", f"{8 * rate:.0f}bit"]
    return words


def _changes(conditions: Conditions) -> list[float]:
    """When anything changes, in order."""
    times: set[float] = set()
    for change_after in (conditions.up.change_after, conditions.down.change_after):
        times |= set(_each(change_after))
    return sorted(times)


def _each(change_after: Callable[[float], float]) -> list[float]:
    found: list[float] = []
    while (at := change_after(found[-1] if found else -math.inf)) < math.inf:
        found.append(at)
    return found


def _enter(name: str) -> None:
    with open(f"/run/netns/{name}") as namespace:  # noqa: PTH123 - its number is all that is wanted
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot enter the namespace")


def _do(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
