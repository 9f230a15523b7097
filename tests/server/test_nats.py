"""NATS where it can be told from a bus in memory: who may connect, what is encrypted, and networks that stand still."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
import ssl
from pathlib import Path

import nkeys
import pytest
from bus_rig import NATS_SERVER, NatsServerProcess, NatsSite, at
from certificates import Pair, make_pair
from live_rig import until
from patience import run_patiently
from programs import needs

from streamcodec.errors import InputError
from streamcodec.server.cluster import joining
from streamcodec.server.cluster.bus import BusError
from streamcodec.server.cluster.nats_settings import NatsServer, NatsSettings
from streamcodec.server.cluster.outbox import MAX_AGE_S, MAX_OUT, Outbox, Outgoing

pytestmark = needs(NATS_SERVER)
PASSWORD = "a-password-nobody-may-see"


async def opened_and_closed(settings: NatsSettings) -> None:
    bus = joining.nats_bus(settings)
    try:
        await bus.open()
        await bus.store("names").put("k", b"1")
    finally:
        await bus.close()


def with_server(folder: Path, config: str, try_it) -> None:
    (folder / "nats.conf").write_text(config)

    async def main() -> None:
        server = NatsServerProcess(folder, "--config", str(folder / "nats.conf"))
        await server.start()
        try:
            await try_it(server.port)
        finally:
            await server.kill()

    run_patiently(main())


def test_a_user_a_token_and_a_seed_let_a_node_in_and_nothing_else_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seed = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    (tmp_path / "seed").write_bytes(seed)
    users = f'authorization {{ users = [ {{ user: node, password: "{PASSWORD}" }}, {{ nkey: {public} }} ] }}'

    async def try_users(port: int) -> None:
        url = f"nats://127.0.0.1:{port}"
        await opened_and_closed(NatsSettings((url,), user="node", password=PASSWORD))
        await opened_and_closed(NatsSettings((f"nats://node:{PASSWORD}@127.0.0.1:{port}",)))
        await opened_and_closed(NatsSettings((url,), nkey_file=tmp_path / "seed"))
        for wrong in (
            NatsSettings((url,)),
            NatsSettings((url,), user="node", password=f"{PASSWORD}-wrong"),
            NatsSettings((f"nats://{PASSWORD}@127.0.0.1:{port}",)),
        ):
            with pytest.raises(BusError, match="refuses the credentials") as raised:
                await opened_and_closed(wrong)
            assert PASSWORD not in str(raised.value) + repr(raised.value) + repr(wrong)

    async def try_token(port: int) -> None:
        await opened_and_closed(NatsSettings((f"nats://127.0.0.1:{port}",), token=PASSWORD))
        await opened_and_closed(NatsSettings((f"nats://{PASSWORD}@127.0.0.1:{port}",)))

    with_server(tmp_path, users, try_users)
    with_server(tmp_path, f'authorization {{ token: "{PASSWORD}" }}', try_token)
    assert PASSWORD not in caplog.text and seed.decode() not in caplog.text


def jwt(subject: nkeys.KeyPair, issuer: nkeys.KeyPair, **said: object) -> str:
    """A token as NATS has them: https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt."""

    def part(value: object) -> str:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    claims = {"jti": "1", "iat": 1, "iss": issuer.public_key.decode(), "sub": subject.public_key.decode(), "name": "x"}
    signed = f"{part({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{part({**claims, 'nats': {'version': 2, **said}})}"
    return f"{signed}.{part(issuer.sign(signed.encode()))}"


def test_a_file_of_credentials_lets_a_node_in_and_another_ones_does_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prefixes = [nkeys.PREFIX_BYTE_OPERATOR, *2 * [nkeys.PREFIX_BYTE_ACCOUNT], *2 * [nkeys.PREFIX_BYTE_USER]]
    seeds = [nkeys.encode_seed(bytes([number]) * 32, prefix) for number, prefix in enumerate(prefixes)]
    operator, account, system, user, stranger = (nkeys.from_seed(bytearray(seed)) for seed in seeds)
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage", "disk_storage"), -1)
    known = {
        account: jwt(account, operator, type="account", limits={**limits, "wildcards": True}),
        system: jwt(system, operator, type="account", limits={**limits, "wildcards": True, "mem_storage": 0, "disk_storage": 0}),
    }
    config = f"""
        operator: "{jwt(operator, operator, type="operator")}"
        system_account: {system.public_key.decode()}
        resolver: MEMORY
        resolver_preload: {{ {", ".join(f'{one.public_key.decode()}: "{token}"' for one, token in known.items())} }}
    """
    for name, issuer in (("good", account), ("bad", stranger)):
        (tmp_path / name).write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt(user, issuer, type='user', **limits)}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seeds[3].decode()}\n------END USER NKEY SEED------\n"
        )

    async def try_it(port: int) -> None:
        url = f"nats://127.0.0.1:{port}"
        await opened_and_closed(NatsSettings((url,), credentials_file=tmp_path / "good"))
        with pytest.raises(BusError, match="refuses the credentials"):
            await opened_and_closed(NatsSettings((url,), credentials_file=tmp_path / "bad"))

    with_server(tmp_path, config, try_it)
    assert seeds[3].decode() not in caplog.text


def test_a_connection_by_tls_is_to_the_server_that_was_meant(tmp_path: Path) -> None:
    ours, others = make_pair(tmp_path, "ours"), make_pair(tmp_path, "others")
    config = f'tls {{ cert_file: "{ours.certificate}", key_file: "{ours.key}" }}'

    async def try_it(port: int) -> None:
        url = f"tls://127.0.0.1:{port}"
        await opened_and_closed(NatsSettings((url,), tls_ca=ours.certificate))
        with pytest.raises(BusError, match=r"certificate is not trusted$"):
            await opened_and_closed(NatsSettings((url,), tls_ca=others.certificate))
        with pytest.raises(BusError, match="not trusted, expected a URL that begins with tls: and cluster_tls_ca"):
            await opened_and_closed(NatsSettings((f"nats://127.0.0.1:{port}",)))

    with_server(tmp_path, config, try_it)


@pytest.mark.parametrize("newest", ["TLSv1_2", "TLSv1_3"])
def test_a_server_that_asks_for_a_certificate_lets_in_a_node_that_has_one_and_tells_others_why_not(
    tmp_path: Path, newest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, node, other = (make_pair(tmp_path, name) for name in ("server", "node", "other"))
    options = ["--jetstream", "--tlsverify", "--tlscert", server.certificate, "--tlskey", server.key, "--tlscacert", node.certificate]
    make = NatsSettings.tls_context

    def up_to_newest(settings: NatsSettings) -> ssl.SSLContext:
        context = make(settings)
        context.maximum_version = ssl.TLSVersion[newest]
        return context

    monkeypatch.setattr(NatsSettings, "tls_context", up_to_newest)

    async def main() -> None:
        process = NatsServerProcess(tmp_path, *map(str, options))
        await process.start()
        try:
            url = f"tls://127.0.0.1:{process.port}"

            def proving(pair: Pair) -> NatsSettings:
                return NatsSettings((url,), tls_ca=server.certificate, tls_certificate=pair.certificate, tls_key=pair.key)

            await opened_and_closed(proving(node))
            with pytest.raises(BusError, match="asks for this node's certificate, expected cluster_tls_certificate and cluster_tls_key"):
                await opened_and_closed(NatsSettings((url,), tls_ca=server.certificate))
            with pytest.raises(BusError, match="does not trust this node's certificate, expected one in cluster_tls_certificate"):
                await opened_and_closed(proving(other))
        finally:
            await process.kill()

    run_patiently(main())


def test_a_renewed_certificate_is_read_for_the_next_connection(tmp_path: Path) -> None:
    server, node, new = (make_pair(tmp_path, name) for name in ("server", "node", "new"))
    settings = NatsSettings(("tls://h",), tls_ca=server.certificate, tls_certificate=node.certificate, tls_key=node.key)
    settings.tls_context()
    node.certificate.write_bytes(new.certificate.read_bytes())
    with pytest.raises(InputError, match=r"cluster_tls_key: .*node\.key: belongs to another certificate"):
        settings.tls_context()
    node.key.write_bytes(new.key.read_bytes())
    settings.tls_context()


def test_files_for_tls_that_cannot_be_used_are_told_by_setting_and_file(tmp_path: Path) -> None:
    node, other, locked = make_pair(tmp_path, "node"), make_pair(tmp_path, "other"), make_pair(tmp_path, "locked", password=b"hush")
    missing, junk = tmp_path / "none.pem", tmp_path / "junk.pem"
    junk.write_text("junk")
    pair = {"tls_certificate": node.certificate, "tls_key": node.key}
    for given, told in (
        ({"tls_ca": missing}, f"cluster_tls_ca: {missing}: No such file or directory"),
        ({"tls_ca": junk}, f"cluster_tls_ca: {junk}: is no certificate, expected one or more as PEM"),
        ({**pair, "tls_certificate": missing}, f"cluster_tls_certificate: {missing}: No such file or directory"),
        ({**pair, "tls_certificate": node.key}, f"cluster_tls_certificate: {node.key}: is no certificate, expected one or more as PEM"),
        ({**pair, "tls_key": missing}, f"cluster_tls_key: {missing}: No such file or directory"),
        ({**pair, "tls_key": junk}, f"cluster_tls_key: {junk}: is no private key, expected one as PEM"),
        ({**pair, "tls_key": other.key}, f"cluster_tls_key: {other.key}: belongs to another certificate than {node.certificate}"),
        ({"tls_certificate": locked.certificate, "tls_key": locked.key}, f"cluster_tls_key: {locked.key}: needs a password"),
        ({"tls_key": node.key}, "cluster_tls_key is given alone, expected cluster_tls_certificate with it"),
        ({"tls_certificate": node.certificate}, "cluster_tls_certificate is given alone, expected cluster_tls_key with it"),
    ):
        with pytest.raises(InputError) as raised:
            NatsSettings(("tls://nats.example",), **given)
        assert told in str(raised.value)
    for url in ("nats://nats.example", "nats.example"):
        with pytest.raises(InputError, match=r"cluster_tls_ca is for TLS, and cluster names 'nats://nats.example:4222': expected .* tls:"):
            NatsSettings(("tls://nats.example", url), tls_ca=node.certificate)


@pytest.mark.parametrize("own", [{"user": "node", "password": PASSWORD}, {"token": PASSWORD}, {}])
def test_a_password_never_goes_in_the_clear_to_a_server_that_was_to_speak_tls(own: dict[str, str]) -> None:
    sent = bytearray()

    async def main() -> None:
        async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            info = {"server_id": "x", "version": "2.15.1", "proto": 1, "max_payload": 1 << 20, "auth_required": True, "headers": True}
            writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
            while data := await reader.read(1 << 16):
                sent.extend(data)
                writer.write(b"PONG\r\n")
            writer.close()

        server = await asyncio.start_server(stranger, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        url = f"tls://127.0.0.1:{port}" if own else f"tls://{PASSWORD}@127.0.0.1:{port}"
        with pytest.raises(BusError, match="does not speak TLS"):
            await opened_and_closed(NatsSettings((url,), **own))
        server.close()

    run_patiently(main())
    assert PASSWORD.encode() not in sent


def test_a_network_that_stands_still_is_noticed_and_nothing_old_is_sent_behind_it(tmp_path: Path) -> None:
    async def main(site: NatsSite) -> None:
        one, other = await site.node(), await site.node()
        got: list[bytes] = []
        other.subscribe("live", got.append)
        await other.flush()
        site.proxies[one].standing = True
        while one.connected:
            one.publish("live", b"stale" * 100)
            await asyncio.sleep(0.01)
        site.proxies[one].cut()
        site.proxies[one].standing = False
        await site.proxies[one].open()
        await until(lambda: one.connected, "it is not connected again")
        one.publish("live", b"fresh")
        await until(lambda: len(got) > 0)
        assert got == [b"fresh"]

    at(NatsSite(tmp_path), main)


def test_of_several_servers_the_next_one_is_taken_where_one_is_dead(tmp_path: Path) -> None:
    async def main() -> None:
        servers = [NatsServerProcess(tmp_path / name) for name in "ab"]
        for server in servers:
            await server.start()
        bus = joining.nats_bus(NatsSettings(tuple(f"nats://127.0.0.1:{server.port}" for server in servers)))

        async def work() -> None:
            for wait_s in itertools.repeat(0.01):
                try:
                    await bus.store("names").put("k", b"")
                    return
                except BusError:
                    await asyncio.sleep(wait_s)

        await bus.open()
        for server in servers:
            await server.kill()
            await work()
            await server.start()
        await bus.close()
        for server in servers:
            await server.kill()

    run_patiently(main())


def test_a_store_with_other_settings_is_refused_with_a_reason(tmp_path: Path) -> None:
    async def main(site: NatsSite) -> None:
        one, other = await site.node(), await site.node()
        await one.store("nodes", ttl_s=5.0).put("k", b"")
        with pytest.raises(BusError, match="other settings"):
            await other.store("nodes", ttl_s=9.0).put("k", b"")

    at(NatsSite(tmp_path), main)


def test_a_message_that_is_too_long_is_lost_and_the_next_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(site: NatsSite) -> None:
        one, other = await site.node(), await site.node()
        got: list[bytes] = []
        other.subscribe("live", got.append)
        await other.flush()
        one.publish("live", bytes(2 << 20))
        one.publish("live", b"next")
        await until(lambda: got == [b"next"])
        assert one.lost == 1 and "too long for NATS" in caplog.text

    at(NatsSite(tmp_path), main)


# Without a server -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"servers": ()},
        {"servers": (f"http://node:{PASSWORD}@host:1",)},
        {"servers": (f"nats://node:{PASSWORD}@host:port",)},
        {"servers": (f"nats://node:{PASSWORD}@host/{PASSWORD}@path",)},
        {"servers": ("nats://",)},
        {"cluster": "a.b"},
        {"replicas": 0},
        {"domain": "a.b"},
        {"user": "node"},
        {"user": "node", "password": PASSWORD, "token": PASSWORD},
        {"credentials_file": Path("/nonexistent/credentials")},
        {"credentials_file": Path(__file__)},  # it has a password, and no credentials
    ],
)
def test_settings_that_cannot_be_are_refused_without_what_is_secret_in_them(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError) as raised:
        NatsSettings(**{"servers": ("nats://127.0.0.1",), **wrong})
    assert PASSWORD not in str(raised.value)


def test_a_server_is_shown_without_its_credentials() -> None:
    server = NatsServer.parse(f"tls://node:{PASSWORD}@nats.example:4333")
    assert (server.host, server.port, server.tls, server.user, server.password) == ("nats.example", 4333, True, "node", PASSWORD)
    assert server.url == "tls://nats.example:4333" and PASSWORD not in repr(server)
    assert [NatsServer.parse(url).url for url in ("nats.example", "[::1]:1")] == ["nats://nats.example:4222", "nats://[::1]:1"]
    assert PASSWORD not in repr(NatsSettings((f"nats://node:{PASSWORD}@host",), token=PASSWORD))


def test_what_waits_to_be_sent_has_a_bound_and_grows_old() -> None:
    now = 0.0
    called: list[str] = []

    async def command(_: None) -> None:
        called.append("command")

    async def main() -> None:
        nonlocal now
        box = Outbox[None](lambda: now)
        for number in range(MAX_OUT + 3):
            box.publish("s", b"%d" % number)
        box.command(command)
        assert box.lost == 3
        first = await box.take()
        assert first == Outgoing(0.0, "s", b"0")
        now = MAX_AGE_S * 1.01
        box.publish("s", b"new")
        item = await box.take()
        assert not isinstance(item, Outgoing), "all other messages were too old, and the command is not"
        await item(None)
        assert await box.take() == Outgoing(now, "s", b"new") and not box
        assert (called, box.lost) == (["command"], 3 + MAX_OUT - 1)
        box.publish("s", b"")
        box.clear()
        assert (bool(box), box.lost) == (False, 3 + MAX_OUT)

    run_patiently(main())
