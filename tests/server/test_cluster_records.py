"""What nodes tell one another: subjects that no client can break, and records that nobody's bytes can."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.errors import InputError, LocalProtocolError
from streamcodec.server.cluster.records import Claim, NodeRecord, RecordError, new_node_id, secret_hash
from streamcodec.server.cluster.subjects import Subjects, escaped, unescaped

SECRET = "the-publishers-secret"
CLAIM = Claim("a.b", "n1", "wss://a.example", "the-session", secret_hash(SECRET), 1_800_000_000.5)
NODE = NodeRecord("n1", "wss://a.example", 3, 40, 5, None, 0.25, False, "sha256:1", "1.2")


@given(st.text(min_size=1, max_size=64).filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text)))
def test_every_name_has_a_token_of_its_own(name: str) -> None:
    token = escaped(name)
    assert unescaped(token) == name
    assert all(char.isascii() and (char.isalnum() or char in "_-=") for char in token)


@pytest.mark.parametrize(
    ("name", "token"), [("a", "a"), ("a.b", "a=2Eb"), ("*", "=2A"), (">", "=3E"), ("=", "=3D"), ("a b\r\n", "a=20b=0D=0A")]
)
def test_what_means_something_in_a_subject_is_escaped(name: str, token: str) -> None:
    assert escaped(name) == token and Subjects("c").began(name) == f"streamcodec.c.began.{token}"


@pytest.mark.parametrize("token", ["", ".", "a.b", "=", "=2", "=2e", "=61", "=FF", "a*", "=2E="])
def test_a_token_that_no_name_has_is_refused(token: str) -> None:
    with pytest.raises(InputError):
        unescaped(token)


def test_subjects_take_tokens_alone() -> None:
    subjects = Subjects("north")
    assert (subjects.live("s-1"), subjects.node("n_1")) == ("streamcodec.north.live.s-1", "streamcodec.north.node.n_1")
    for make in (Subjects, subjects.live, subjects.node):
        for wrong in ("", "a.b", ">", "a b", "a\r\nPUB x 0\r\n", "a" * 129):
            with pytest.raises(InputError):
                make(wrong)
    with pytest.raises(InputError):
        subjects.began("")


@pytest.mark.parametrize("record", [CLAIM, NODE])
def test_a_record_comes_back_from_its_bytes(record: Claim | NodeRecord) -> None:
    assert type(record).parse(record.pack()) == record


def test_what_is_secret_is_in_no_text() -> None:
    text = repr(CLAIM) + str(CLAIM)
    assert "the-session" not in text and repr(CLAIM.secret_hash) not in text
    with pytest.raises(LocalProtocolError) as raised:
        dataclasses.replace(CLAIM, session="the-session" * 100)
    assert "the-session" not in str(raised.value)
    with pytest.raises(LocalProtocolError) as raised:
        dataclasses.replace(CLAIM, secret_hash=SECRET)
    assert SECRET not in str(raised.value)


def test_a_publisher_proves_itself_by_its_secret() -> None:
    assert CLAIM.is_publishers(SECRET) and not CLAIM.is_publishers(SECRET[:-1]) and not CLAIM.is_publishers("")


def test_a_node_is_another_one_each_time_it_starts() -> None:
    assert len({new_node_id() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "change",
    [
        {"name": "no name"},
        {"node": "a.b"},
        {"address": "http://a"},
        {"session": ""},
        {"secret_hash": b"short"},
        {"since": -1},
        {"since": "now"},
    ],
)
def test_a_claim_has_what_a_claim_has(change: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError):
        dataclasses.replace(CLAIM, **change)


@pytest.mark.parametrize("change", [{"room": -1}, {"load": float("nan")}, {"draining": 1}, {"listeners": 1.5}, {"fingerprint": ""}])
def test_a_node_has_what_a_node_has(change: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError):
        dataclasses.replace(NODE, **change)


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    for kind in (Claim, NodeRecord):
        with pytest.raises(RecordError):
            kind.parse(data)


@given(st.integers(0, len(CLAIM.pack()) - 1), st.integers(0, 255))
def test_a_claim_with_one_byte_changed_is_a_claim_or_refused(at: int, byte: int) -> None:
    data = bytearray(CLAIM.pack())
    data[at] = byte
    try:
        assert isinstance(Claim.parse(bytes(data)), Claim)
    except RecordError as exc:
        assert "the-session" not in str(exc)


def test_a_record_of_a_newer_version_is_understood_and_a_huge_one_is_not_read() -> None:
    from streamcodec.protocol.unpacking import pack, unpack

    newer = {**unpack(CLAIM.pack()), "colour": "green"}
    assert Claim.parse(pack(newer)) == CLAIM
    with pytest.raises(RecordError, match="bytes"):
        Claim.parse(pack({**newer, "padding": b"x" * 20_000}))
