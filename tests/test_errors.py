"""What somebody else has written reaches no log and no terminal as it is."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.errors import ConnectionFailed, Refused, RemoteProtocolError, WireCode, explain, printable, without_credentials

NASTY = "\x1b[31mred\x1b]0;title\x07\n12:00:00 forged line\r\x85\u2028\u202egnp.exe\u200b\x00\ud800"


def test_what_is_printable_stays_as_it_is():
    assert printable("Grüße, 世界 🎤 \\n") == "Grüße, 世界 🎤 \\n"


def test_control_characters_are_told_by_their_escapes():
    assert printable("a\nb\x1b[1m\u202e\ud800\x85") == "a\\nb\\x1b[1m\\u202e\\ud800\\x85"


@given(st.text())
def test_nothing_is_left_that_a_terminal_could_obey(text):
    assert printable(text).isprintable()


@pytest.mark.parametrize(
    "error",
    [
        RemoteProtocolError(WireCode.INTERNAL, NASTY),
        Refused("internal", NASTY, retry=True),
        Refused(NASTY, "", retry=False),
        ConnectionFailed(f"the connection was lost: {NASTY}"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_other_end_is_one_line(error):
    assert str(error).isprintable() and "forged line" in str(error)


def test_a_file_that_may_not_be_used_is_told_with_its_owner_and_ours(tmp_path):
    keys = tmp_path / "keys.json"
    keys.touch(mode=0o600)
    denied = PermissionError(errno.EACCES, "Permission denied", str(keys))
    us = os.geteuid()
    assert explain(denied) == f"{keys}: Permission denied for user {us}: it is user {us}'s and has mode 0600"
    keys.unlink()
    assert explain(denied) == f"{keys}: Permission denied"


def test_a_file_whose_folder_is_closed_is_told_too(monkeypatch):
    def closed(file):
        raise PermissionError(errno.EACCES, "Permission denied", file)

    denied = PermissionError(errno.EACCES, "Permission denied", "secrets/keys.json")
    monkeypatch.setattr(os, "stat", closed)
    assert explain(denied) == f"secrets/keys.json: Permission denied for user {os.geteuid()}, who may not look into its folder"


def test_a_url_is_told_without_its_credentials_wherever_it_stands():
    for url, told in (
        ("nats://user:pass/word@host:1", "nats://***@host:1"),
        ("user:password@host", "***@host"),
        ("https://token@host/path", "https://***@host/path"),
        ("https://host/path", "https://host/path"),
        ("a\nb@host", "***@host"),
    ):
        assert without_credentials(url) == told
    assert without_credentials({"a": ["nats://x@h", 5, None]}) == {"a": ["nats://***@h", 5, None]}
