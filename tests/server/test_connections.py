"""What connections leave behind is collected as they end, where the garbage collector comes rarely."""

from __future__ import annotations

from typing import Any

import pytest
from server_rig import run, serving, until

from streamcodec.client import listen
from streamcodec.server import connections as module
from streamcodec.server.connections import Connections


class Collector:
    """The garbage collector, as far as it is asked."""

    def __init__(self, frozen: int) -> None:
        self.frozen = frozen
        self.collections = 0

    def get_freeze_count(self) -> int:
        return self.frozen

    def collect(self) -> None:
        self.collections += 1


def collections(monkeypatch: pytest.MonkeyPatch, open_ones: int, ended: int, frozen: int = 1) -> list[int]:
    """After which of the connections that end there is a collection."""
    collector = Collector(frozen)
    monkeypatch.setattr(module, "gc", collector)
    there: Any = Connections()
    there.update(range(open_ones))
    found = []
    for at in range(ended):
        there.add(f"ends {at}")
        before = collector.collections
        there.discard(f"ends {at}")
        if collector.collections > before:
            found.append(at + 1)
    return found


def test_there_is_a_collection_once_as_many_have_ended_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert collections(monkeypatch, open_ones=0, ended=120) == [50, 100]
    assert collections(monkeypatch, open_ones=200, ended=500) == [200, 400]


def test_a_program_that_has_not_frozen_what_it_loaded_keeps_python_s_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    # A collection would visit all that was ever loaded.
    assert collections(monkeypatch, open_ones=0, ended=120, frozen=0) == []


def test_a_server_collects_what_its_connections_leave_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector(frozen=1)
    monkeypatch.setattr(module, "gc", collector)
    monkeypatch.setattr(module, "_FEWEST", 10)

    async def main() -> None:
        async with serving() as server:
            for _ in range(25):
                async with listen(server.url, "nobody", format="pcm_s16le"):
                    pass
                await until(lambda: not server._connections)
            assert collector.collections == 2

    run(main())
