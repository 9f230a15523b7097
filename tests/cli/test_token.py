"""Keys and signed tokens from the command line: what is issued is good for what it says, and nothing secret is shown."""

from __future__ import annotations

import asyncio
import io
import json
import re
import stat
import sys

import pytest
from cli_rig import fails
from live_rig import command, run, started

from streamcodec.cli import main
from streamcodec.errors import Refused


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    monkeypatch.delenv("STREAMCODEC_TOKEN_KEYS", raising=False)
    monkeypatch.delenv("STREAMCODEC_TOKEN", raising=False)


def said(capsys, *argv):
    assert main(["token", *map(str, argv)]) == 0
    return capsys.readouterr().out


def inspected(capsys, monkeypatch, token, *argv):
    monkeypatch.setattr(sys, "stdin", io.StringIO(token + "\n"))
    out = said(capsys, "inspect", *argv)
    assert token not in out
    return out


@pytest.mark.parametrize("algorithm", ["EdDSA", "HS256"])
def test_a_key_signs_what_it_proves(algorithm, tmp_path, capsys, monkeypatch):
    keys = tmp_path / "keys.json"
    assert re.fullmatch(
        rf"added key [0-9a-f]{{8}} \({algorithm}\) to .*: 1 in all\n", said(capsys, "new-key", keys, "--algorithm", algorithm)
    )
    token = said(
        capsys, "issue", "--keys", keys, "--publish", "alice", "--listen", "room.*", "--listen", "b", "--name", "Al\x1b[1m"
    ).strip()
    told = inspected(capsys, monkeypatch, token, "--keys", keys)
    assert "holder    Al\\x1b[1m\n" in told and "publish   alice\n" in told and "listen    room.*, b\n" in told
    assert re.search(r"^expires   \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, in 12 h$", told, re.M) and "signature good" in told
    assert "not looked at" in inspected(capsys, monkeypatch, token)


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_key_set_is_its_owners_alone_and_grows_at_the_front(tmp_path, capsys, monkeypatch):
    keys = tmp_path / "keys.json"
    said(capsys, "new-key", keys)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    old = said(capsys, "issue", "--keys", keys, "--listen", "*").strip()
    assert "2 in all" in said(capsys, "new-key", keys, "--algorithm", "HS256")
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert [key["alg"] for key in json.loads(keys.read_text())["keys"]] == ["HS256", "EdDSA"]
    new = said(capsys, "issue", "--keys", keys, "--listen", "*").strip()
    for token in (old, new):
        assert "signature good" in inspected(capsys, monkeypatch, token, "--keys", keys)


def test_public_keys_prove_and_hold_no_secret(tmp_path, capsys, monkeypatch):
    keys, public = tmp_path / "keys.json", tmp_path / "public.json"
    said(capsys, "new-key", keys)
    public.write_text(said(capsys, "public-keys", keys))
    assert json.loads(keys.read_text())["keys"][0]["d"] not in public.read_text()
    token = said(capsys, "issue", "--keys", keys, "--listen", "*").strip()
    assert "signature good" in inspected(capsys, monkeypatch, token, "--keys", public)
    assert fails(capsys, "token", "issue", "--keys", public, "--listen", "*")[0] == 2


def test_keys_come_from_the_environment_too(tmp_path, capsys, monkeypatch):
    keys = tmp_path / "keys.json"
    said(capsys, "new-key", keys)
    monkeypatch.setenv("STREAMCODEC_TOKEN_KEYS", keys.read_text())
    token = said(capsys, "issue", "--listen", "*").strip()
    assert "signature good" in inspected(capsys, monkeypatch, token)
    monkeypatch.setenv("STREAMCODEC_TOKEN_KEYS", "nonsense-and-secret")
    status, line = fails(capsys, "token", "issue", "--listen", "*")
    assert status == 2 and "$STREAMCODEC_TOKEN_KEYS: this is no JSON Web Key Set" in line and "nonsense" not in line


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("issue", "--keys", "keys.json"), "this token would grant nothing, expected --publish PATTERN or --listen PATTERN"),
        (("issue", "--listen", "a"), "there is no key to sign with, expected --keys FILE or $STREAMCODEC_TOKEN_KEYS"),
        (("issue", "--keys", "keys.json", "--listen", "a/b"), "listen has the pattern 'a/b', expected 1 to 64 of"),
        (
            ("issue", "--keys", "keys.json", "--listen", "a", "--for", "soon"),
            "'soon' is no time, expected for instance 90s, 30m, 12h or 7d",
        ),
        (("issue", "--keys", "keys.json", "--listen", "a", "--for", "0h"), "'0h' is no time"),
        (("issue", "--keys", "none.json", "--listen", "a"), "none.json: No such file or directory"),
        (("new-key", "talk.txt"), "talk.txt: this is no JSON Web Key Set"),
        (("inspect",), "the token is no JSON Web Token"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line(argv, why, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said(capsys, "new-key", "keys.json")
    (tmp_path / "talk.txt").write_text("no keys")
    monkeypatch.setattr(sys, "stdin", io.StringIO("what-is-this"))
    status, line = fails(capsys, "token", *argv)
    assert status == 2 and why in line and "what-is-this" not in line
    assert (tmp_path / "talk.txt").read_text() == "no keys"


@pytest.mark.usefixtures("here")
def test_a_server_with_keys_lets_in_whom_they_let_in(model, speech_file, tmp_path, monkeypatch, capsys):
    keys = tmp_path / "keys.json"
    said(capsys, "new-key", keys)
    tokens = {name: said(capsys, "issue", "--keys", keys, "--publish", name).strip() for name in ("live", "other")}

    async def scene() -> None:
        told = ""
        async with started(command("serve", "--port", "0", "--model", model, "--capacity", "off", "--token-keys", keys)):
            while not (address := re.search(r"ws://127\.0\.0\.1:\d+", told)):
                await asyncio.sleep(0.005)
                told += capsys.readouterr().out
            publish = ("mic", "--server", address[0], "--input", speech_file, "--fast", "--quiet")
            with pytest.raises(Refused, match=r"a token is needed to publish \(unauthorized"):
                await command(*publish)
            monkeypatch.setenv("STREAMCODEC_TOKEN", tokens["other"])
            with pytest.raises(Refused, match=r"the token does not allow to publish 'live' \(unauthorized"):
                await command(*publish)
            monkeypatch.setenv("STREAMCODEC_TOKEN", tokens["live"])
            assert await command(*publish) == 0

    run(scene())
