"""`serve --processes 2` as real processes: they act as one server, streams go on where the kernel takes a client, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import psutil
import pytest
import tomli_w
from bus_rig import NATS_SERVER
from made_up_models import small_model
from patience import PATIENT, TIMEOUT_S
from programs import needs
from server_rig import Heard, listen_hello, listening, offline_codec, raw, run, same_codes, samples, voice
from test_resuming import cut, feed

from streamcodec.client import PublishOptions, publish
from streamcodec.errors import Refused
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart
from streamcodec.server.processes import tether

TOKEN = "the-token-of-the-operator"
PACKETS = 4  # in a round
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel spreads the connections of one port on Linux"),
    needs(NATS_SERVER),
]


class Processes:
    """A server of two processes; `supervisor` is the process that was started."""

    def __init__(self, supervisor: subprocess.Popen[str], url: str, private: str) -> None:
        self.supervisor = supervisor
        self.url = url
        self.private = private
        self.children = psutil.Process(supervisor.pid).children()

    async def get(self, path: str, method: str = "GET", **body: Any) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx2.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            answer = await client.request(method, self.private + path, headers=headers, json=body if method == "POST" else None)
            return answer.status_code, answer.text

    async def listed(self, what: str) -> list[dict[str, Any]]:
        status, text = await self.get(f"/admin/{what}")
        assert status == 200, text
        found: list[dict[str, Any]] = json.loads(text)[what]
        return found

    async def process_of(self, stream: str) -> int:
        """Which process has the stream."""
        [number] = [one["process"] for one in await self.listed("streams") if one["stream"] == stream]
        assert isinstance(number, int)
        return number

    async def figures(self) -> dict[str, float]:
        status, text = await self.get("/metrics")
        assert status == 200
        return samples(text)

    async def until(self, condition: Callable[[dict[str, float]], Any]) -> None:
        """Wait until the figures are so."""
        async with asyncio.timeout(TIMEOUT_S / 2):
            while not condition(await self.figures()):
                pass

    def child(self, number: int) -> psutil.Process:
        """The process of that number."""
        running = psutil.Process(self.supervisor.pid).children()
        [found] = [one for one in running if f"server-process {number} " in " ".join(one.cmdline())]
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Two processes, with copies of their streams; in the end they stop in order, and leave nothing."""
    folder = tmp_path_factory.mktemp("processes")
    config, temporary = folder / "server.toml", folder / "temporary"
    temporary.mkdir()
    limits = {**PATIENT, "capacity": "off", "resume_s": 60.0, "hung_step_s": TIMEOUT_S}
    config.write_text(
        tomli_w.dumps({"model": small_model(), "engine": "torch", "port": 0, "private_port": 0, "replicate": True, "limits": limits})
    )
    command = [sys.executable, "-m", "streamcodec.cli", "serve", "--config", str(config), "--processes", "2", "--drain-seconds", "600"]
    environment = {**os.environ, "STREAMCODEC_ADMIN_TOKEN": TOKEN, "TMPDIR": str(temporary)}
    environment.pop("STREAMCODEC_ENGINE", None)
    log = (folder / "log").open("w+")
    with log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            told = [process.stdout.readline() for _ in range(3)]
            match = re.fullmatch(r"streamcodec \S+ at (ws://127\.0\.0\.1:\d+): model .*, 2 processes, \d+\+\d+ processor\(s\)\n", told[0])
            assert match, (told, (folder / "log").read_text())
            running = Processes(process, match[1], told[2].removeprefix("private port: ").strip())
            assert len(running.children) == 3, "nats-server and two processes"
            yield running
            last = psutil.Process(process.pid).children()
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0, (folder / "log").read_text()
            assert process.stdout.read() == "stopped\n"
            assert not any(one.is_running() for one in last) and list(temporary.glob("streamcodec-*")) == []
            assert "Traceback" not in (folder / "log").read_text()
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def heard_at(server: Processes, stream: str, at: Callable[[int], bool]) -> AsyncIterator[tuple[Heard, int]]:
    """A listener of codes at a process as `at` wants it, and that one's number: the kernel chooses, so some are tried."""
    for _ in range(100):
        async with contextlib.AsyncExitStack() as stack:
            there = {one["session"] for one in await server.listed("listeners")}
            heard = await listening(stack, server.url, stream, offline_codec())
            [one] = [one for one in await server.listed("listeners") if one["session"] not in there]
            if at(one["process"]):
                yield heard, one["process"]
                return
    raise AssertionError("the kernel takes all clients to one process")


def packets(heard: Heard) -> list[int]:
    return [packet.seq for packet in heard.of(Packet)]


def test_health_and_figures_are_those_of_all_processes(server: Processes) -> None:
    async def main() -> None:
        assert await server.get("/healthz") == (200, "ok\n") == await server.get("/readyz")
        figures = await server.figures()
        for number in (1, 2):
            assert figures[f"ready{{process={number}}}"] == figures[f"processes_up{{process={number}}}"] == 1
            assert figures[f"cluster_nodes{{process={number}}}"] == 2
            # 256 and 1,024 in all, and 256 other connections.
            assert figures[f"connections_max{{process={number}}}"] == 128 + 512 + 128
        page = importlib.resources.files("streamcodec.docs").joinpath("server.md").read_text(encoding="utf-8")
        told = set(re.findall(r"`streamcodec_(processes_\w+)`", page))
        assert told and told == {name.partition("{")[0] for name in figures if name.startswith("processes_")}
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{server.private}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
            assert answer.text.endswith("# EOF\n") and answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert {one["address"] for one in await server.listed("nodes")} == {server.url} and len(await server.listed("nodes")) == 2

    run(main())


def test_nobody_reaches_what_joins_the_processes(server: Processes) -> None:
    async def main() -> None:
        listening_on = {
            (one.name(), where.laddr.ip, where.laddr.port)
            for one in psutil.Process(server.supervisor.pid).children()
            for where in one.net_connections("tcp")
            if where.status == psutil.CONN_LISTEN
        }
        assert {ip for _, ip, _ in listening_on} == {"127.0.0.1"}
        [port] = [port for name, _, port in listening_on if "nats-server" in name]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await reader.readline()).startswith(b"INFO ")
        writer.write(b"CONNECT {}\r\nPING\r\n")
        assert b"Authorization Violation" in await reader.readline()
        writer.close()
        await writer.wait_closed()

    run(main())


def test_a_publisher_goes_on_at_whichever_process_takes_it_and_nobody_hears_that(server: Processes) -> None:
    codec, x = offline_codec(), voice(1, 30.0)

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            steady = await listening(stack, server.url, "roaming", codec)
            roaming = await listening(stack, server.url, "roaming", codec)
            publisher = await stack.enter_async_context(publish(server.url, "roaming", PublishOptions(pace="fast", bandwidth=6.0)))
            moves, at, sent = 0, None, 0
            while moves < 2:
                await feed(publisher, x, sent, PACKETS)
                sent += PACKETS
                for heard in (steady, roaming):
                    await heard.to(lambda heard: packets(heard)[-1:] == [sent - 1])  # noqa: B023
                number = await server.process_of("roaming")
                moves += at is not None and number != at
                at = number
                assert sent * 1920 < len(x), "the kernel takes all clients to one process"
                cut(publisher)
                cut(roaming.listener)
            await publisher.end()
            for heard in (steady, roaming):
                await heard.to_end()
                assert packets(heard)[:sent] == list(range(sent)) and heard.of(Gap) == []
                same_codes(codec, heard.codes(codec), x[: sent * 1920], 6.0, publisher.welcome.start)
            assert len(steady.of(StreamStart)) == 1, "one epoch"

    run(main())


def test_a_stream_of_one_process_is_heard_and_ended_at_all(server: Processes) -> None:
    async def main() -> None:
        with pytest.raises(Refused, match="the operator ended it"):
            async with publish(server.url, "here", PublishOptions(pace="fast", bandwidth=6.0)) as publisher:
                number = await server.process_of("here")
                async with heard_at(server, "here", lambda at: at != number) as (heard, _):
                    await publisher.send(voice(1, 0.8))
                    await heard.to(lambda heard: len(packets(heard)) >= 9)
                    assert await server.get("/admin/streams/nowhere/end", "POST") == (
                        404,
                        """{"error": "there is no stream 'nowhere'"}\n""",
                    )
                    status, _ = await server.get("/admin/streams/here/end", "POST")
                    assert status == 200
                    await heard.to_end()
                    assert heard.of(StreamEnd)[0].reason == "the operator ended it"
        async with raw(server.url) as client:
            await client.send(listen_hello("nothing"))
            await client.receive()
            [one] = [one for one in await server.listed("listeners") if one["stream"] == "nothing"]
            assert (await server.get(f"/admin/sessions/{one['session']}/end", "POST", bar=True))[0] == 400, "it has shown no token"
            assert (await server.get(f"/admin/sessions/{one['session']}/end", "POST"))[0] == 200
            word, close_code = await client.last_word()
            assert word is not None and (word["code"], close_code) == ("unauthorized", 4401)
        assert (await server.get("/admin/drain", "POST", seconds=-1))[0] == 400

    run(main())


def test_the_streams_of_a_process_that_dies_go_on_at_another_and_the_others_do_not_notice(server: Processes) -> None:
    codec, x = offline_codec(), voice(2, 30.0)
    options = PublishOptions(pace="fast", bandwidth=6.0)

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            mortal = await stack.enter_async_context(publish(server.url, "mortal", options))
            dies = await server.process_of("mortal")
            async with heard_at(server, "mortal", lambda at: at != dies) as (heard, _):
                for number in range(100):
                    other = await stack.enter_async_context(publish(server.url, f"other-{number}", options))
                    if await server.process_of(f"other-{number}") != dies:
                        break
                async with heard_at(server, f"other-{number}", lambda at: at != dies) as (undisturbed, _):
                    for publisher, listener in ((mortal, heard), (other, undisturbed)):
                        await feed(publisher, x, 0, PACKETS)
                        await listener.to(lambda heard: packets(heard)[-1:] == [PACKETS - 1])
                    # A copy of what has been heard by now.
                    copies, sample = (await server.figures()), f"cluster_copies_total{{process={dies}}}"
                    streams = copies[f"publishers{{process={dies}}}"]
                    await server.until(lambda figures: figures[sample] > copies[sample] + 2 * streams)
                    server.child(dies).kill()
                    for publisher, listener in ((mortal, heard), (other, undisturbed)):
                        await feed(publisher, x, PACKETS, PACKETS)
                        await listener.to(lambda heard: packets(heard)[-1:] == [2 * PACKETS - 1])
                    assert await server.process_of("mortal") != dies
                    for publisher, listener in ((mortal, heard), (other, undisturbed)):
                        await publisher.end()
                        await listener.to_end()
                        assert packets(listener)[: 2 * PACKETS] == list(range(2 * PACKETS)) and listener.of(Gap) == []
                        assert len(listener.of(StreamStart)) == 1, "one epoch"
                        same_codes(codec, listener.codes(codec), x[: 2 * PACKETS * 1920], 6.0, publisher.welcome.start)
        await server.until(lambda figures: figures[f"processes_up{{process={dies}}}"] == 1)
        figures = await server.figures()
        assert figures[f"processes_restarted_total{{process={dies}}}"] == 1
        assert 1 <= figures[f"cluster_restored_total{{process={3 - dies}}}"] <= streams  # those that found the one that dies came along
        assert await server.get("/readyz") == (200, "ok\n")

    run(main())


def test_streams_go_on_while_nats_is_gone_and_meet_again_when_it_is_back(server: Processes) -> None:
    x = voice(3, 2.0)

    async def main() -> None:
        [nats] = [one for one in psutil.Process(server.supervisor.pid).children() if "nats-server" in one.name()]
        async with publish(server.url, "alone", PublishOptions(pace="fast", bandwidth=6.0)) as publisher:
            number = await server.process_of("alone")
            async with heard_at(server, "alone", lambda at: at == number) as (heard, _):
                nats.kill()
                await server.until(lambda figures: figures[f"cluster_bus_connected{{process={number}}}"] == 0)
                await feed(publisher, x, 0, PACKETS)
                await heard.to(lambda heard: packets(heard)[-1:] == [PACKETS - 1])
                await server.until(lambda figures: all(figures[f"cluster_bus_connected{{process={one}}}"] for one in (1, 2)))
                await server.until(lambda figures: all(figures[f"cluster_nodes{{process={one}}}"] == 2 for one in (1, 2)))
                await server.until(lambda figures: figures[f"cluster_unclaimed{{process={number}}}"] == 0)
                async with heard_at(server, "alone", lambda at: at != number) as (elsewhere, _):
                    await feed(publisher, x, PACKETS, PACKETS)
                    await elsewhere.to(lambda heard: packets(heard)[-1:] == [2 * PACKETS - 1])

    run(main())


def test_no_process_survives_the_one_that_has_started_it() -> None:
    """The way of all of them, on a program that would live for ever."""
    endless = "import signal; print('there', flush=True); signal.pause()"
    tied = f"subprocess.Popen([{sys.executable!r}, '-I', {tether.__file__!r}, str(os.getpid()), {sys.executable!r}, '-c', {endless!r}])"
    with subprocess.Popen([sys.executable, "-c", f"import os, subprocess; {tied}.wait()"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "there\n"
        parent.kill()
        assert parent.stdout.read() == "", "its child has closed the pipe as well"
