"""`streamcodec admin` against a real server: it shows, ends, narrows and drains, and what a peer wrote reaches no terminal unescaped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from pathlib import Path

import pytest
from cli_rig import fails
from live_rig import a_server, run, tiny_codec, until

from streamcodec.cli import main
from streamcodec.cli.admin import table
from streamcodec.client import listen, publish
from streamcodec.client.publisher import PublishOptions
from streamcodec.errors import Refused
from streamcodec.server import Grant, Operations, TokenKeys

TOKEN = "an-admin-token-of-32-characters!"
KEYS = TokenKeys.generate("HS256")


@contextlib.asynccontextmanager
async def publish_later(server, token):
    """A publisher at a server that has its port by then."""
    async with publish(server.url, "here", PublishOptions(token=token)):
        yield


@pytest.fixture(autouse=True)
def with_the_token(monkeypatch):
    monkeypatch.setenv("STREAMCODEC_ADMIN_TOKEN", TOKEN)


def test_a_stream_is_shown_narrowed_and_ended_and_the_server_drained(capsys):
    async def admin(server, *argv):
        status = await asyncio.to_thread(main, ["admin", *argv, "--server", server.private.url])
        said = capsys.readouterr()
        assert status == 0, said.err
        return said.out

    async def scene():
        token = KEYS.sign(Grant(publish=["*"], listen=["*"], expires=4e9, name="\x1b[31mEve\n"))
        server = a_server(private_port=0, operations=Operations(admin_token=TOKEN), token_keys=KEYS)
        async with server, publish_later(server, token):
            assert json.loads(await admin(server, "list", "--json"))["streams"][0]["stream"] == "here"
            heading, row = (await admin(server, "list")).splitlines()
            assert heading.split()[:5] == ["stream", "session", "address", "holder", "since"]
            assert re.fullmatch(r"here +[0-9a-f]{12} +127\.0\.0\.1:\d+ +\\x1b\[31mEve\\n +\d\d-\d\d \S+Z +0 +0 +- +- +no +0", row)
            async with listen(server.url, "here", model=tiny_codec().fingerprint, token=token) as listener:
                [shown] = (await admin(server, "listeners")).splitlines()[1:]
                session = shown.split()[1]
                assert await admin(server, "grant", session, "--listen", "here", "--publish", "*", "--for", "1h") == "narrowed\n"
                assert await admin(server, "end", session) == "ended\n"
                with pytest.raises(Refused, match="the operator ended it"):
                    async for _ in listener:
                        pass
            assert await admin(server, "end", "--stream", "here") == "ended\n"
            await until(lambda: not server.registry.streams)
            # The publisher, which ends its stream where this block ends, hears why it cannot.

    with pytest.raises(Refused, match="the operator ended it"):
        run(scene())


def test_a_server_is_drained(capsys):
    async def scene():
        async with a_server(private_port=0, operations=Operations(admin_token=TOKEN)) as server:
            argv = ["admin", "drain", "--seconds", "300", "--to", "wss://b.example", "--server", server.private.url]
            assert await asyncio.to_thread(main, argv) == 0
            assert await server.until_over() is None
            assert server.draining.go_to == "wss://b.example"

    run(scene())
    assert capsys.readouterr().out == "draining\n"


def test_what_went_wrong_is_one_line(capsys, tmp_path, monkeypatch):
    def failing(url, *argv):
        return fails(capsys, "admin", *argv, "--server", url)

    async def scene():
        async with a_server(private_port=0, operations=Operations(admin_token=TOKEN)) as server, a_server(private_port=0) as closed:
            url = server.private.url
            status, line = await asyncio.to_thread(failing, url, "end", "\x1b[31m0")
            assert status == 1 and line.isprintable() and "there is no session" in line
            status, line = await asyncio.to_thread(failing, closed.private.url, "list")
            assert status == 1 and "Does the server have an admin token?" in line
            monkeypatch.setenv("STREAMCODEC_ADMIN_TOKEN", "wrong")
            status, line = await asyncio.to_thread(failing, url, "list")
            assert status == 1 and "status 401" in line and "wrong" not in line

    run(scene())
    monkeypatch.setenv("STREAMCODEC_ADMIN_TOKEN", "")
    (tmp_path / "token").write_text("\n")
    url = "http://127.0.0.1:1"
    assert failing(url, "list")[0] == 2
    assert failing(url, "list", "--token-file", Path(tmp_path / "token"))[0] == 2
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert failing(url, "list", "--token-file", Path(tmp_path / "token"))[0] == 1
    assert failing("http://other.example", "list", "--token-file", Path(tmp_path / "token"))[0] == 2
    assert failing(url, "end")[0] == failing(url, "end", "a", "--stream", "b")[0] == failing(url, "end", "--stream", "b", "--bar")[0] == 2


def test_a_table_escapes_what_others_wrote():
    columns = {"name": lambda one: one["name"], "n": lambda one: one["n"]}
    rows = [{"name": "\x1b[2J\u202e\n", "n": None}, {"name": "b", "n": 12}]
    assert table(columns, rows).splitlines() == [f"{'name':15}  n", r"\x1b[2J\u202e\n  -", f"{'b':15}  12"]
