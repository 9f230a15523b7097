"""A benchmark's server of several processes: it is what `serve --processes` starts, says what it has used, and ends when it is told to."""

from __future__ import annotations

import sys

import psutil
import pytest
from made_up_models import small_model
from programs import needs
from tiny_benchmark import in_one_process

from benchmarks.capacity.benchmark import BENCHMARK
from benchmarks.cluster.nats_server import nats_program
from benchmarks.harness import processes
from benchmarks.harness.models import Loading
from benchmarks.harness.processes import Address, Served, Serving, serve
from benchmarks.harness.run import main
from streamcodec.codec import load
from streamcodec.server import Limits

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel spreads the connections of one port on Linux"),
    needs(nats_program() or "nats-server"),
]


def test_a_server_of_two_processes_serves_tells_its_usage_and_ends() -> None:
    serving = Serving(Loading(small_model(), "torch"), limits=Limits(max_publishers=1000, capacity=None), processes=2)
    with in_one_process(), processes.Processes() as started:
        server = started.start(serve, serving)
        address = server.receive()
        assert isinstance(address, Address) and address.fingerprint == load(small_model(), engine="torch").fingerprint
        [command] = [one for one in psutil.Process().children() if _is_server(one)]
        used = server.ask("usage")
        assert used["cpu_s"] > 0 and used["rss_mib"] > 100, "two processes with torch"
        assert len([one for one in command.children() if "server-process" in one.cmdline()]) == 2
        assert server.ask("stop") == Served()
        assert not command.is_running()


def _is_server(process: psutil.Process) -> bool:
    try:
        return "serve" in process.cmdline()
    except psutil.NoSuchProcess:  # a child of another test's that has ended
        return False


def test_in_process_there_are_no_several_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BENCHMARK, ["--processes", "2"]) == 1
    assert "--processes 2: expected --way websocket" in capsys.readouterr().err
