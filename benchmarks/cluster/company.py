"""The clients of a case as tasks: who listens, who publishes, and what is waited for between them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable

from benchmarks.cluster.ear import PACKET_S, ClusterEar, longest_silence
from benchmarks.cluster.site import PATIENCE_S, until
from benchmarks.cluster.speaker import ClusterSpeaker
from benchmarks.harness.processes import Address
from benchmarks.harness.sections import Figures

__all__ = ["Company", "CompanyTalk", "heard_again_s", "missed", "silence_ms", "worst"]

_STEADY_S, _FEWEST = 1.0, 5


class CompanyTalk:
    """A publisher and all who listen to it, with `ears` by where they listen and as what."""

    def __init__(
        self, speaker: ClusterSpeaker, addresses: Iterable[Address], kinds: Iterable[str] = ("codes",), *, keep: bool = False
    ) -> None:
        self.speaker = speaker
        fingerprint = speaker.fingerprint
        self.ears = {
            (at, kind): ClusterEar(speaker.name, address.url, fingerprint, "pcm" if kind == "pcm" else "codes", keep)
            for at, address in enumerate(addresses)
            for kind in kinds
        }


class Company:
    """Use it as an async context manager: leaving it cancels whoever is still there."""

    def __init__(self) -> None:
        self.talks: list[CompanyTalk] = []
        self._listening: list[asyncio.Task[None]] = []
        self._speaking: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Company:
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._speaking.values(), *self._listening]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def ears(self) -> list[ClusterEar]:
        """All who listen."""
        return [ear for talk in self.talks for ear in talk.ears.values()]

    async def begin(self, talks: Iterable[CompanyTalk]) -> None:
        """Let all listen, and when they wait let the publishers begin; returns when everybody has heard something."""
        new = list(talks)
        self.talks += new
        ears = [ear for talk in new for ear in talk.ears.values()]
        self._listening += [asyncio.create_task(ear.run()) for ear in ears]
        await until(lambda: all(ear.waiting.is_set() for ear in ears), "a listener is not let in")
        for at, talk in enumerate(new):
            self.speak(talk.speaker, at * PACKET_S / len(new))
        await until(lambda: all(ear.came for ear in ears), "a listener hears nothing")

    def speak(self, speaker: ClusterSpeaker, after_s: float = 0.0) -> None:
        """Let one more publisher begin."""

        async def run() -> None:
            await asyncio.sleep(after_s)
            await speaker.run()

        self._speaking[f"{speaker.name} at {speaker.url}"] = asyncio.create_task(run())

    async def end(self) -> None:
        """Let all publishers end their streams, and wait until their listeners have been told."""
        for talk in self.talks:
            talk.speaker.stop()
        tasks = list(self._speaking.values())
        done, late = await asyncio.wait(tasks, timeout=PATIENCE_S)
        for task in done:
            task.result()
        if late:
            raise RuntimeError(f"{len(late)} publishers do not end")

    async def ended(self) -> None:
        """Wait until all listeners have been told that their streams are over, or for a while."""
        with contextlib.suppress(RuntimeError):
            await until_told(self.ears)

    async def heard_again(self, since: float) -> None:
        """Wait until packets come steadily at all listeners after `since`, or for a while."""
        with contextlib.suppress(RuntimeError):
            await until(lambda: all(_steady(ear, since) for ear in self.ears), "a stream is not heard again")


async def until_told(ears: list[ClusterEar]) -> None:
    """Wait until all have been told of an end."""
    await until(lambda: all(ear.ends for ear in ears), "a listener is not told of its stream's end", 20.0)


def _steady(ear: ClusterEar, since: float) -> bool:
    now = time.perf_counter()
    return now - since > 2 * _STEADY_S and sum(at > max(since, now - _STEADY_S) for at in ear.came[-2 * _FEWEST :]) >= _FEWEST


def heard_again_s(ear: ClusterEar, since: float, until_s: float | None = None) -> float | None:
    """From `since` to the first packet behind the longest silence after it; None where nothing came."""
    came = [since, *(at for at in ear.came if at > since)]
    found = longest_silence(came, since, float("inf") if until_s is None else until_s)
    return None if found is None else found[1] - since


def silence_ms(ear: ClusterEar, begin: float, end: float) -> float:
    """The longest time between two packets in a row, beyond a packet's own time (ms)."""
    found = longest_silence(ear.came, begin, end)
    return 1000 * (end - begin if found is None else found[1] - found[0] - PACKET_S)


def worst(values: Iterable[float | None]) -> float | None:
    """The largest of all; None where one is missing."""
    found = list(values)
    return None if not found or any(value is None for value in found) else max(value for value in found if value is not None)


def missed(ears: Iterable[ClusterEar], since: float = 0.0) -> Figures:
    """What listeners did not get, and whether they were told; gaps count that came after `since`."""
    ears = list(ears)
    reasons: dict[str, int] = {}
    for ear in ears:
        for at, count, reason in ear.gaps:
            if at > since:
                reasons[reason] = reasons.get(reason, 0) + count
    return {
        "told": reasons,
        "unnamed": sum(ear.unnamed for ear in ears),
        "repeated": sum(ear.repeated for ear in ears),
        "errors": sorted({text for ear in ears for _, text in ear.errors})[:5],
    }
