"""Nobody gets in who should not, whatever role they ask for, and the page on the server lists all that a client can be told instead."""

from __future__ import annotations

import ast
import importlib.resources
import re
import time
from http import HTTPStatus
from pathlib import Path

import pytest
from server_rig import is_clean, listen_hello, publish_hello, raw, run, serving
from websockets.exceptions import InvalidStatus

from streamcodec.errors import WireCode
from streamcodec.server import Grant, TokenKeys, Tokens
from streamcodec.server.refusals import Bound

KEYS, OTHERS = TokenKeys.generate("EdDSA"), TokenKeys.generate("EdDSA")
NOW = time.time()


def token(keys=KEYS, *, streams="bad", expires=NOW + 3600, roles=("publish", "listen"), **more):
    return keys.sign(Grant(**{role: [streams] for role in roles}, expires=expires, **more))


GOOD = token()
# What is changed of a request that would be let in: its token, its path, its headers.
WRONG = {
    "no token": {"token": None},
    "an empty token": {"token": ""},
    "a wrong token": {"token": "wrong"},
    "a token that somebody else has signed": {"token": token(OTHERS)},
    "an expired token": {"token": token(expires=NOW - 60)},
    "a token that is not good yet": {"token": token(not_before=NOW + 3000)},
    "another stream's token": {"token": token(streams="other")},
    "a token in the URL": {"token": None, "path": f"/?token={GOOD}"},
    "a token in the URL as a name": {"token": None, "path": "/", "user": GOOD},
    "a token in another header": {"token": None, "headers": {"X-Token": GOOD}},
    "a token of another scheme": {"token": None, "headers": {"Authorization": f"Basic {GOOD}"}},
    "a foreign Origin": {"headers": {"Origin": "https://evil.example"}, "status": HTTPStatus.FORBIDDEN},
    "a foreign Host": {"headers": {"Host": "evil.example"}, "status": HTTPStatus.MISDIRECTED_REQUEST},
}


def hello_of(role, shown):
    return (publish_hello if role == "publish" else listen_hello)(token=shown)


@pytest.mark.parametrize("role", ["publish", "listen"])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_nobody_gets_in(wrong, role):
    async def main():
        async with serving(token_keys=KEYS, tokens=Tokens(publish=["of-others"], listen=["of-others"])) as server:
            address = server.url.replace("//", f"//{wrong['user'][:100]}:x@") if "user" in wrong else server.url
            options = {"additional_headers": wrong.get("headers", {})}
            if "status" in wrong:
                with pytest.raises(InvalidStatus) as caught:
                    async with raw(address, **options):
                        pass
                assert caught.value.response.status_code == wrong["status"]
            else:
                async with raw(address + wrong.get("path", ""), **options) as client:
                    await client.send(hello_of(role, wrong["token"]))
                    word, code = await client.last_word()
                    assert (word["type"], word["code"], word["retry"], code) == ("refuse", "unauthorized", False, 4401)
            assert not server.registry.streams and not server.registry.listeners
            await is_clean(server)

    run(main())


@pytest.mark.parametrize("role", ["publish", "listen"])
def test_who_should_gets_in(role):
    """The same request with nothing wrong about it, so that what is refused above is refused for what is wrong."""

    async def main():
        async with serving(token_keys=KEYS) as server, raw(server.url) as client:
            await client.send(hello_of(role, GOOD))
            assert (await client.receive())["type"] == "welcome"

    run(main())


# The page -----------------------------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
PAGE = importlib.resources.files("streamcodec.docs").joinpath("server.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## What a client sees that is refused\n")[1].split("\n## ")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in SECTION.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_says_what_the_code_does_and_names_a_test_that_exists(row):
    _, sees, again, limit, tests = row
    assert again in ("yes", "no")
    if (match := re.fullmatch(r"`(\w+)` (\d+)", sees)) is not None:
        code = WireCode(match[1])
        assert (code.close_code, code.retry) == (int(match[2]), again == "yes")
    elif (match := re.fullmatch(r"HTTP (\d+)", sees)) is not None:
        assert HTTPStatus(int(match[1])) >= 400
    else:
        assert sees in (f"close code {WireCode.RATE_LIMITED.close_code} alone", "the connection is dropped")
    assert limit == "-" or limit.strip("`") in list(Bound)
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)
    assert named
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path} has no {name}"


def test_every_code_and_every_limit_has_a_row():
    assert {re.match(r"`(\w+)`", row[1])[1] for row in ROWS if row[1].startswith("`")} == set(WireCode)
    assert {row[3].strip("`") for row in ROWS} - {"-"} == set(Bound)
