"""nats-py, kept at arm's length: a client for one connection, its end, and its errors in words without anything secret."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any

import nats.errors
from nats.aio.client import Client, RawCredentials

from streamcodec.errors import InputError, explain
from streamcodec.server.cluster.bus import BusError
from streamcodec.server.cluster.nats_settings import NatsServer, NatsSettings

__all__ = ["CLIENT_ERRORS", "connected_client", "discard", "reason_of"]

CLIENT_ERRORS = (nats.errors.Error, OSError, asyncio.TimeoutError)
"""What nats-py raises."""

_CONNECT_WITHIN_S = 2
_PING_EVERY_S = 1
_UNANSWERED_PINGS = 2
_PENDING_BYTES = 1 << 16
"""More is not taken before it has gone to the socket: behind a network that stands still audio is old."""

# What the library logs holds what servers say, whole exceptions and addresses: this room says itself what matters.
_theirs = logging.getLogger("nats")
_theirs.propagate = False
_theirs.addHandler(logging.NullHandler())


async def connected_client(
    server: NatsServer, settings: NatsSettings, lost: Callable[[], None], slow: Callable[[nats.errors.SlowConsumerError], None]
) -> Client:
    """A client that is connected to `server`. It calls `lost` soon after its connection has ended, and never connects again.

    `slow` hears of each message that is dropped, as too many wait. Raises `BusError`.
    """
    client, last = Client(), Exception()

    async def closed() -> None:
        lost()

    async def failed(error: Exception) -> None:
        nonlocal last
        last = error
        if isinstance(error, nats.errors.SlowConsumerError):
            slow(error)

    try:
        options: dict[str, Any] = {
            "servers": [server.url],
            "name": f"streamcodec {settings.cluster}",
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "connect_timeout": _CONNECT_WITHIN_S,
            "ping_interval": _PING_EVERY_S,
            "max_outstanding_pings": _UNANSWERED_PINGS,
            "pending_size": _PENDING_BYTES,
            "error_cb": failed,
            "disconnected_cb": closed,
            "closed_cb": closed,
            **_credentials(server, settings, lambda: _is_encrypted(client)),
        }
        if server.tls:
            options["tls"] = settings.tls_context()
        async with asyncio.timeout(2 * _CONNECT_WITHIN_S):
            await client.connect(**options)
        if server.tls and not _is_encrypted(client):
            raise BusError("it does not speak TLS")
        if not client.is_connected:
            raise ConnectionResetError("it ends the connection")
    except (BusError, InputError) as exc:
        await discard(client)
        raise BusError(f"NATS at {server.url} cannot be used: {exc}") from None
    except Exception as exc:
        # Whatever a file of credentials or a server makes the library do.
        told = _refusal(client, server, settings, last if isinstance(exc, nats.errors.NoServersError) else exc)
        await discard(client)
        raise BusError(f"NATS at {server.url} cannot be reached: {told}") from None
    except BaseException:
        await discard(client)
        raise
    return client


async def discard(client: Client) -> None:
    """End a client for good, whatever state its connection is in."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_CONNECT_WITHIN_S):
            await client.close()
    # One whose connection broke while it had something to send leaves its subscriptions' tasks (as of nats-py 2.16), and one whose server
    # does not read waits for the system to give the connection up.
    for subscription in list(getattr(client, "_subs", {}).values()):
        subscription._stop_processing()
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    if writer is not None:
        writer.transport.abort()


def reason_of(error: Exception) -> str:
    """An error of nats-py's in words of this program: what a server has written is not in it."""
    if isinstance(error, nats.errors.AuthorizationError) or "authorization" in str(error).lower():
        return "it refuses the credentials"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    if isinstance(error, ssl.SSLError):
        return "TLS failed"
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "no answer in time"
    if isinstance(error, OSError):
        return explain(error)
    return type(error).__name__


def _refusal(client: Client, server: NatsServer, settings: NatsSettings, error: Exception) -> str:
    """Why a connection came to nothing, with what to set where that would help.

    By TLS 1.3 a server that does not take a node's certificate says so behind the handshake, or only ends the connection: what it has said
    of itself before is surer.
    """
    said: dict[str, Any] = getattr(client, "_server_info", {})
    if isinstance(error, ssl.SSLCertVerificationError):
        told = reason_of(error)
        return told if server.tls else f"{told}, expected a URL that begins with tls: and cluster_tls_ca, as it speaks TLS alone"
    if said.get("tls_required") and said.get("tls_verify"):
        if not server.tls or settings.tls_certificate is None:
            return "it asks for this node's certificate, expected cluster_tls_certificate and cluster_tls_key, and a URL with tls:"
        if isinstance(error, (ssl.SSLError, ConnectionError)):
            return "it does not trust this node's certificate, expected one in cluster_tls_certificate that its authority has signed"
    return reason_of(error)


def _is_encrypted(client: Client) -> bool:
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    return writer is not None and writer.get_extra_info("ssl_object") is not None


def _credentials(server: NatsServer, settings: NatsSettings, encrypted: Callable[[], bool]) -> dict[str, Any]:
    """What proves to the server who this is. What is sent as it is (a password, a token) goes out by TLS alone where TLS was asked for."""

    def kept(value: str) -> Callable[[], str]:
        def give() -> str:
            if server.tls and not encrypted():
                raise BusError("it does not speak TLS")
            return value

        return give

    if (credentials := settings.credentials()) is not None:
        return {"user_credentials": RawCredentials(credentials)}
    if settings.nkey_file is not None:
        return {"nkeys_seed": str(settings.nkey_file)}
    if settings.token is not None:
        return {"token": kept(settings.token)}
    user, password = (settings.user, settings.password) if settings.user is not None else (server.user, server.password)
    if user is not None and password is not None:
        return {"user": kept(user), "password": kept(password)}
    return {} if user is None else {"token": kept(user)}  # a URL with one word in front of its @ has a token there
