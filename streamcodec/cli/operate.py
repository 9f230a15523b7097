"""What `serve` does besides serving: it reads tokens and keys again when their files change, and ends in time when it is told to."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from streamcodec.errors import InputError

if TYPE_CHECKING:
    from streamcodec.server import Operations, Server, TokenKeys, Tokens
    from streamcodec.server.settings import Settings
    from streamcodec.server.watched import WatchedFiles

__all__ = ["end_in_time", "files_of", "operations_of", "reload_when_changed"]

log = logging.getLogger("streamcodec.server")


def operations_of(settings: Settings) -> Operations:
    """What the settings say about whoever runs the server. Raises `InputError`."""
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
    return Operations(auth_url, webhooks, admin_token, settings.drain_seconds, settings.drain_to)


def _secret(settings: Settings, name: str) -> str | None:
    from streamcodec.client.tokens import read_secret

    file, secret = getattr(settings, f"{name}_file"), getattr(settings, name)
    if file is not None and secret is not None:
        raise InputError(f"there are two of {name}, expected either the file or the environment's")
    return read_secret(file) if file is not None else None if secret is None else str(secret.get_secret_value())


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


def end_in_time(server: Server) -> None:
    """Let SIGTERM drain the server, a second one end this process at once, and let nothing that hangs keep it beyond the time to drain."""
    server.on_drain = _end_within
    if sys.platform == "win32":
        return
    signals = 0

    def terminate() -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            _exit("a second SIGTERM: ended at once", 128 + signal.SIGTERM)
        server.drain()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)


def _end_within(seconds: float) -> None:
    # A thread, as the loop itself may hang.
    timer = threading.Timer(seconds, _exit, (f"has not stopped within {seconds:g} s: ended", 1))
    timer.daemon = True
    timer.start()


def _exit(why: str, status: int) -> None:
    print(f"streamcodec: {why}", file=sys.stderr, flush=True)
    os._exit(status)
