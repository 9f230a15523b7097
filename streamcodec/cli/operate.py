"""What `serve` makes of its settings, and what it does besides serving: it reads tokens and keys again, and ends in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from streamcodec.cli.token import read_token_keys
from streamcodec.errors import InputError, explain

if TYPE_CHECKING:
    from pydantic import SecretStr

    from streamcodec.server import ClusterOptions, Operations, RecordingFolder, Server, TokenKeys, Tokens
    from streamcodec.server.cluster.nats_settings import NatsSettings
    from streamcodec.server.settings import Origins, Settings
    from streamcodec.server.watched import WatchedFiles

__all__ = [
    "cluster_of",
    "cluster_of_processes",
    "end_in_time",
    "files_of",
    "leave",
    "operations_of",
    "recordings_of",
    "reload_when_changed",
    "tokens_and_keys_of",
]

log = logging.getLogger("streamcodec.server")


def operations_of(settings: Settings, *, several: bool = False) -> Operations:
    """What the settings say about whoever runs the server, which is one of `several` processes. Raises `InputError`."""
    from streamcodec.server import AuthUrl, Operations, Webhooks

    auth_url = webhooks = None
    if settings.auth_url is not None:
        auth_url = AuthUrl(settings.auth_url, time.time, bearer=_secret(settings, "auth_url_token"))
    if settings.webhook is not None:
        secret = _secret(settings, "webhook_secret")
        if secret is None:
            raise InputError("a webhook is signed, expected --webhook-secret-file or $STREAMCODEC_WEBHOOK_SECRET")
        webhooks = Webhooks(settings.webhook, secret, time.time)
    admin_token = _secret(settings, "admin_token")
    if admin_token is not None and settings.private_port is None:
        raise InputError("the admin token is for the private port, expected --private-port")
    return Operations(auth_url, webhooks, admin_token, settings.drain_seconds, settings.drain_to, several)


def _secret(settings: Settings, name: str) -> str | None:
    from streamcodec.client.tokens import read_secret

    file, secret = getattr(settings, f"{name}_file"), getattr(settings, name)
    if file is not None and secret is not None:
        raise InputError(f"there are two of {name}, expected either the file or the environment's")
    return read_secret(file) if file is not None else None if secret is None else str(secret.get_secret_value())


def recordings_of(settings: Settings) -> RecordingFolder | None:
    """Where the server's streams are recorded, if they are. Raises `InputError`."""
    from streamcodec.server import RecordingFolder

    if settings.record is not None:
        return RecordingFolder(settings.record, settings.record_quota, rotate=settings.record_rotate)
    if settings.record_quota is not None or settings.record_rotate:
        raise InputError("record_quota and record_rotate are for recordings: expected --record FOLDER, or the setting record")
    return None


def cluster_of(settings: Settings) -> ClusterOptions | None:
    """The cluster that the server is a node of, if it is. Raises `InputError`, and `MissingDependencyError` without its extra."""
    if not settings.cluster:
        for name in ("cluster_credentials", "cluster_tls_ca", "cluster_tls_certificate", "cluster_tls_key", "cluster_domain"):
            if getattr(settings, name) is not None:
                raise InputError(f"{name} is for a node of a cluster: expected --cluster URL")
        if settings.cluster_replicas != 1:
            raise InputError("cluster_replicas is for a node of a cluster: expected --cluster URL")
        if (settings.replicate or settings.cluster_address is not None) and settings.processes == 1:
            raise InputError("replicate and cluster_address are for a node of a cluster: expected --cluster URL, or --processes N")
        return None
    from streamcodec.server import ClusterOptions
    from streamcodec.server.cluster.joining import nats_bus
    from streamcodec.server.cluster.nats_settings import NatsSettings

    nats = NatsSettings(
        settings.cluster,
        settings.cluster_name,
        credentials_file=settings.cluster_credentials,
        replicas=settings.cluster_replicas,
        domain=settings.cluster_domain,
        tls_ca=settings.cluster_tls_ca,
        tls_certificate=settings.cluster_tls_certificate,
        tls_key=settings.cluster_tls_key,
    )
    bus = nats_bus(nats)
    several = settings.processes > 1
    return ClusterOptions(lambda: bus, settings.cluster_name, settings.cluster_address, settings.replicate, several)


def cluster_of_processes(settings: Settings, nats: NatsSettings, address: str) -> ClusterOptions:
    """The cluster of the processes of one server, which all have one `address`. Raises `MissingDependencyError` without its extra."""
    from streamcodec.server import ClusterOptions
    from streamcodec.server.cluster.joining import nats_bus
    from streamcodec.server.cluster.own_record import EVERY_NETWORK

    bus = nats_bus(nats)
    known = settings.cluster_address is not None or settings.host not in EVERY_NETWORK  # to clients
    return ClusterOptions(lambda: bus, nats.cluster, address, settings.replicate, known)


def tokens_and_keys_of(settings: Settings, origins: Origins) -> tuple[Tokens, TokenKeys | None]:
    """The shared tokens and the keys of signed ones, from their files and from the environment. Raises `InputError`."""
    from streamcodec.server import Tokens

    tokens = Tokens(
        publish=_tokens(settings.publish_token_file, settings.publish_token),
        listen=_tokens(settings.listen_token_file, settings.listen_token),
    )
    return tokens, read_token_keys(settings.token_keys_file, _revealed(settings.token_keys), origins.of("token_keys") or "")


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _tokens(path: Path | None, secret: SecretStr | None) -> tuple[str, ...]:
    found = [] if secret is None else [secret.get_secret_value()]
    if path is not None:
        try:
            listed = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except OSError as exc:
            raise InputError(explain(exc)) from exc
        except UnicodeDecodeError as exc:
            raise InputError(f"{path}: is no text file, expected one token a line") from exc
        if not listed:
            raise InputError(f"{path}: holds no token, expected one a line")
        found += listed
    return tuple(found)


def files_of(settings: Settings) -> list[Path]:
    """The files of tokens and keys that are read again when they change."""
    return [path for path in (settings.publish_token_file, settings.listen_token_file, settings.token_keys_file) if path is not None]


async def reload_when_changed(server: Server, files: WatchedFiles, read: Callable[[], tuple[Tokens, TokenKeys | None]]) -> None:
    """Look at `files` every few seconds, and let the server have what `read` gives when they have changed and settled.

    A file that cannot be read or makes no sense changes nothing, which the log says.
    """
    from streamcodec.server.watched import LOOK_EVERY_S

    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if not await asyncio.to_thread(files.changed):
            continue
        try:
            tokens, keys = await asyncio.to_thread(read)
        except InputError as exc:
            log.error("the tokens and keys are those from before, as they cannot be read again: %s", exc)
        else:
            server.reload(tokens, keys)
            log.info("read the tokens and keys again")


class Drained(Protocol):
    """What SIGTERM drains: a server, or the processes of one. It calls `on_drain` with the time (s) within which this process is to end."""

    on_drain: Callable[[float], None]

    def drain(self) -> None:
        """Begin."""


def end_in_time(server: Drained, *, again: bool = True) -> None:
    """Let SIGTERM drain the server, and let nothing that hangs keep this process beyond the time to drain.

    With `again` a second SIGTERM ends this process at once. One of several processes may get it from their supervisor and from the system.
    """
    server.on_drain = _end_within
    if sys.platform == "win32":
        return
    signals = 0

    def terminate() -> None:
        nonlocal signals
        signals += 1
        if signals > 1 and again:
            _exit("a second SIGTERM: ended at once", 128 + signal.SIGTERM)
        server.drain()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)


def _end_within(seconds: float) -> None:
    # A thread, as the loop itself may hang.
    timer = threading.Timer(seconds, _exit, (f"has not stopped within {seconds:g} s: ended", 1))
    timer.daemon = True
    timer.start()


def leave(status: int) -> NoReturn:
    """End this process now, with all that was said written out; nothing else is waited for."""
    for said in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            said.flush()
    os._exit(status)


def _exit(why: str, status: int) -> None:
    print(f"streamcodec: {why}", file=sys.stderr, flush=True)
    os._exit(status)
