"""What a message and a write through NATS cost this machine: processor time of the node's process and of NATS, at an even pace."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import psutil

from benchmarks.cluster.nats_server import NatsProgram
from benchmarks.cluster_growth.model import Costs, Sizes
from benchmarks.harness.processes import Process, Processes, run_loop
from benchmarks.relay.publisher import codes_drawn
from streamcodec.gc_freeze import freeze_gc
from streamcodec.protocol import Packet
from streamcodec.server.cluster.nats import NatsBus
from streamcodec.server.cluster.nats_settings import NatsSettings
from streamcodec.server.cluster.questions import read_live
from streamcodec.server.cluster.records import NodeRecord, new_node_id
from streamcodec.server.cluster.subjects import Subjects

__all__ = ["measure_costs", "sizes"]

_SUBJECTS = 50
_BURST_S = 0.02
_FRAMES = 6
_SETTLE_S = 0.5


def packet_of(n_q: int) -> bytes:
    """A packet as the bus has it."""
    return Packet(seq=100_000, epoch=1, timestamp=2**31, n_q=n_q, payload=codes_drawn(0, n_q, _FRAMES)()).serialize()


def record_of(node: str) -> bytes:
    """What a node renews every second."""
    return NodeRecord(node, "wss://voice-1234.example.org", 12, 345, 18, 655, 0.4, False, "0" * 32, "0.1.0").pack()


def sizes(n_q: int, copy_bytes: int) -> Sizes:
    """Bytes of each kind, where packets have `n_q` codebooks and a copy has `copy_bytes`; NATS's protocol adds a line of text to each."""
    packet, record = packet_of(n_q), record_of(new_node_id())
    live, kept = Subjects().live(new_node_id()), f"$KV.streamcodec_default_nodes.{new_node_id()}"
    copies = f"$KV.streamcodec_default_snapshots.{new_node_id()}"
    return Sizes(
        packet_in=len(f"PUB {live} {len(packet)}\r\n\r\n") + len(packet),
        packet_out=len(f"MSG {live} 1234 {len(packet)}\r\n\r\n") + len(packet),
        record_out=len(f"MSG {kept} 12 {len(record)}\r\n\r\n") + len(record),
        copy_in=len(f"PUB {copies} _INBOX.{'0' * 30} {copy_bytes}\r\n\r\n") + copy_bytes,
    )


@dataclass(frozen=True)
class Pace:
    """What a sender sends: packets of `n_q` codebooks, or else writes of `write_bytes`, so many a second for some seconds."""

    per_s: int
    seconds: float
    n_q: int = 0
    write_bytes: int = 0


@dataclass(frozen=True)
class Spent:
    """How many were sent, and the processor time (s) of the sender meanwhile."""

    count: int
    cpu_s: float


def measure_costs(args: argparse.Namespace, n_q: int, copy_bytes: int) -> tuple[Costs, list[dict[str, float]]]:
    """The costs, and the runs that they were made of. NATS's costs of a message in and out come from runs with few and many takers."""
    few, many = args.takers
    with tempfile.TemporaryDirectory() as folder, NatsProgram(Path(folder)) as nats, Processes() as processes:
        live = [_live(nats, processes, Pace(args.messages_per_s, args.seconds, n_q), takers) for takers in (few, many)]
        record, copy = (
            _writes(nats, processes, Pace(per_s, args.seconds, write_bytes=size))
            for per_s, size in ((args.writes_per_s, len(record_of(new_node_id()))), (args.copies_per_s, copy_bytes))
        )
    out_us = (live[1]["nats_us"] - live[0]["nats_us"]) / (many - few)
    costs = Costs(
        send_us=live[0]["sender_us"],
        take_us=live[0]["taker_us"],
        write_us=record["sender_us"],
        nats_in_us=max(0.0, live[0]["nats_us"] - few * out_us),
        nats_out_us=out_us,
        nats_write_us=record["nats_us"],
        nats_copy_us=copy["nats_us"],
    )
    return costs, [*live, record, copy]


def _live(nats: NatsProgram, processes: Processes, pace: Pace, takers: int) -> dict[str, float]:
    """Messages to all subjects, with some processes that take each of them; microseconds are those of one message that was sent."""
    taking = [processes.start(take_all, nats.url) for _ in range(takers)]
    for taker in taking:
        taker.receive()
    spent, nats_s = _sent(nats, processes, pace)
    time.sleep(_SETTLE_S)
    taken: list[Spent] = [taker.ask("how many") for taker in taking]
    for taker in taking:
        taker.end()
    return {
        "takers": takers,
        "per_s": pace.per_s,
        "count": spent.count,
        "lost": takers * spent.count - sum(one.count for one in taken),
        "sender_us": 1e6 * spent.cpu_s / spent.count,
        "taker_us": 1e6 * sum(one.cpu_s for one in taken) / takers / spent.count,
        "nats_us": 1e6 * nats_s / spent.count,
    }


def _writes(nats: NatsProgram, processes: Processes, pace: Pace) -> dict[str, float]:
    spent, nats_s = _sent(nats, processes, pace)
    return {
        "bytes": pace.write_bytes,
        "per_s": pace.per_s,
        "count": spent.count,
        "sender_us": 1e6 * spent.cpu_s / spent.count,
        "nats_us": 1e6 * nats_s / spent.count,
    }


def _sent(nats: NatsProgram, processes: Processes, pace: Pace) -> tuple[Spent, float]:
    sender: Process = processes.start(send_all, nats.url, pace)
    sender.receive()
    before = _cpu_s(nats)
    spent: Spent = sender.ask("go")
    nats_s = _cpu_s(nats) - before
    sender.end()
    return spent, nats_s


def _cpu_s(nats: NatsProgram) -> float:
    return float(sum(psutil.Process(nats.pid).cpu_times()[:2]))


# The processes ---------------------------------------------------------------------------------------------------------------------------


def send_all(pipe: Pipe, url: str, pace: Pace) -> None:
    """Says "ready"; once told to go, sends at the pace and answers with what it has `Spent`."""
    run_loop(_send_all(pipe, url, pace))


async def _send_all(pipe: Pipe, url: str, pace: Pace) -> None:
    bus = NatsBus(NatsSettings((url,)))
    await bus.open()
    subjects = [Subjects().live(f"growth{number}") for number in range(_SUBJECTS)]
    store = bus.store("nodes" if pace.write_bytes < 4096 else "snapshots", ttl_s=10.0)
    if pace.write_bytes:
        await store.put("warm", b"up")
    freeze_gc()
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    burst = max(1, round(pace.per_s * _BURST_S))
    rounds = round(pace.seconds * pace.per_s / burst)
    value, message = bytes(pace.write_bytes), b"" if pace.write_bytes else packet_of(pace.n_q)
    begun, spent = time.perf_counter(), time.process_time()
    for at in range(rounds):
        if pace.write_bytes:
            await asyncio.gather(*(store.put(f"growth{at % 8}x{one}", value) for one in range(burst)))
        else:
            for one in range(burst):
                bus.publish(subjects[(at * burst + one) % _SUBJECTS], message)
        await asyncio.sleep(max(0.0, begun + (at + 1) * burst / pace.per_s - time.perf_counter()))
    await bus.flush()
    pipe.send(Spent(rounds * burst, time.process_time() - spent))
    await asyncio.to_thread(pipe.recv)
    await bus.close()


def take_all(pipe: Pipe, url: str) -> None:
    """Takes all live messages, reads them as a node does, says "ready", and answers the next question with what it has `Spent`."""
    run_loop(_take_all(pipe, url))


async def _take_all(pipe: Pipe, url: str) -> None:
    bus, taken = NatsBus(NatsSettings((url,))), 0

    def take(data: bytes) -> None:
        nonlocal taken
        read_live(data)
        taken += 1

    await bus.open()
    for number in range(_SUBJECTS):
        bus.subscribe(Subjects().live(f"growth{number}"), take)
    await bus.flush()
    freeze_gc()
    pipe.send("ready")
    spent = time.process_time()
    await asyncio.to_thread(pipe.recv)
    pipe.send(Spent(taken, time.process_time() - spent))
    await asyncio.to_thread(pipe.recv)
    await bus.close()
