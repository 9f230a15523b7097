"""Begins to take connections: on both ports, or on none."""

from __future__ import annotations

from streamcodec.errors import StreamCodecError
from streamcodec.server.ports.private import PrivatePort
from streamcodec.server.ports.public import PublicPort

__all__ = ["open_ports"]


async def open_ports(private: PrivatePort | None, public: PublicPort, port: int) -> int:
    """The public port that was taken. Raises `StreamCodecError` where one of the two cannot be."""
    if private is not None:
        await private.open()
    try:
        return await public.open(port)
    except StreamCodecError:
        if private is not None:
            await private.close()
        raise
