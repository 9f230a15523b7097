"""What `serve` does in one process, be it the only one or one of several: a server from its settings, until it is over."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamcodec.cli.options import load_codec

if TYPE_CHECKING:
    from streamcodec.codec import Codec
    from streamcodec.processors import ProcessorShare
    from streamcodec.server import Server
    from streamcodec.server.cluster.nats_settings import NatsSettings
    from streamcodec.server.settings import Origins, Settings

__all__ = ["ProcessPart", "more_lines", "room_for", "run_server", "sayer"]


@dataclass(frozen=True)
class ProcessPart:
    """What process `number` of several is besides its settings.

    It meets the others at `nats`; None: at the servers that its settings name. It has a `share` of the processors,
    and `page_folder` is where the first one leaves the page's model for the others. `address` is what they call the address of all of them.
    """

    number: int
    share: ProcessorShare
    page_folder: Path
    nats: NatsSettings | None = field(repr=False)
    address: str


def run_server(settings: Settings, origins: Origins, part: ProcessPart | None = None) -> Coroutine[Any, Any, int]:
    """The server that the settings describe, to be awaited to its end; as one of several processes it tells the others' supervisor."""
    import asyncio
    import contextlib
    import logging

    import streamcodec
    from streamcodec.cli.operate import end_in_time, files_of, leave, reload_when_changed, tokens_and_keys_of
    from streamcodec.gc_freeze import freeze_gc
    from streamcodec.processors import available_processors
    from streamcodec.server.door import ask_for_descriptors
    from streamcodec.server.logs import set_up_logs
    from streamcodec.server.watched import WatchedFiles

    set_up_logs(settings.log_format, logging.DEBUG if settings.verbose else logging.INFO, None if part is None else part.number)
    ask_for_descriptors(settings.limits.max_publishers + settings.limits.max_listeners + 1024)
    processors = available_processors()
    watched = WatchedFiles(files_of(settings))  # before they are read, as loading the model takes a while
    server, codec = _server(settings, origins, processors, part)

    async def tell(running: Server, say: Callable[[str], None]) -> None:
        model = f"model {codec.name} ({codec.fingerprint}), {codec.capabilities.audio}, {codec.engine.name}"
        packets = f"{1000 * codec.config.packet_frames_for() / codec.frame_rate:.0f} ms packets"
        if part is not None:
            from streamcodec.server.processes.supervisor import PREPARED, READY

            assert running.private is not None
            told = {"private": running.private.url, "url": running.url, "page": running.page_url, "model": model, "room": running.room}
            print(json.dumps({READY: {**told, "packets": packets, "processors": processors}}), flush=True)
            await running.page_is_ready()
            print(json.dumps({PREPARED: True}), flush=True)
            return
        say(f"streamcodec {streamcodec.__version__} at {running.url}: {model}, {processors} processor(s){room_for(running.room, packets)}")
        for line in more_lines(settings, running.page_url, None if running.private is None else running.private.url):
            say(line)

    async def run() -> int:
        status, say = 0, (lambda _: None) if part is not None else sayer(settings)
        # An interrupt is how a server ends.
        with contextlib.suppress(asyncio.CancelledError):
            async with server as running:
                freeze_gc()
                end_in_time(running, again=part is None)
                await tell(running, say)
                read = partial(tokens_and_keys_of, settings, origins)
                reloading = asyncio.create_task(reload_when_changed(running, watched, read))
                try:
                    lost = await running.until_over()  # the log tells it, too
                finally:
                    reloading.cancel()
                if lost is not None:
                    status = 1
                    if settings.log_format == "text":
                        print(f"streamcodec: the engine is lost: {lost}", file=sys.stderr)
        say("stopped")
        if server.engine_hangs or server.draining.begun:
            # The interpreter waits for the engine's threads, and takes seconds to end on a busy machine. A drain has promised a time.
            leave(1 if server.engine_hangs else status)
        return status

    return run()


def sayer(settings: Settings) -> Callable[[str], None]:
    """What tells whoever has started the server: on standard output, or in the log where that is for programs."""
    import logging

    if settings.log_format == "json":
        return logging.getLogger("streamcodec.server").info
    return partial(print, flush=True)


def room_for(publishers: int | None, packets: str) -> str:
    """How many publishers there is room for, where that is known."""
    return "" if publishers is None else f", room for about {publishers} live publisher(s) at {packets}"


def more_lines(settings: Settings, page: str | None, private: str | None) -> list[str]:
    """What is said of the page and of the private port."""
    lines = []
    if page is not None:
        lines.append(f"talk and listen in a browser: {page}")
    elif settings.page:
        lines.append("no page for browsers: it was not built (make page)")
    return lines if private is None else [*lines, f"private port: {private}"]


def _server(settings: Settings, origins: Origins, processors: int, part: ProcessPart | None) -> tuple[Server, Codec]:
    from streamcodec.cli.operate import cluster_of, cluster_of_processes, operations_of, recordings_of, tokens_and_keys_of
    from streamcodec.server import Page, Proxies, Server, Sites

    tokens, keys = tokens_and_keys_of(settings, origins)
    cluster = cluster_of(settings) if part is None or part.nats is None else cluster_of_processes(settings, part.nats, part.address)
    recordings = recordings_of(settings)
    offered = Page(settings.model, kept=None if part is None else part.page_folder) if settings.page else None
    steps = settings.threads or processors
    codec = load_codec(settings.model, settings.device, settings.engine, settings.precision, steps, workers=steps, wait_for_compile=False)
    server = Server(
        codec,
        settings.host,
        settings.port,
        tokens=tokens,
        token_keys=keys,
        insecure=settings.insecure,
        sites=Sites(settings.allow_origin, settings.allow_host),
        page=offered,
        proxies=Proxies(settings.trusted_proxy, settings.forwarded_header),
        tls_certificate=settings.tls_certificate,
        tls_key=settings.tls_key,
        private_port=settings.private_port,
        private_host=settings.private_host,
        operations=operations_of(settings, several=part is not None),
        recordings=recordings,
        echo=settings.echo,
        cluster=cluster,
        limits=settings.limits,
        shares_port=part is not None,
    )
    return server, codec
