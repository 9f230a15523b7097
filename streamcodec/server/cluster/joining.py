"""How a node comes to its bus. NATS's client is loaded here, and only where it is asked for."""

from __future__ import annotations

from streamcodec.errors import MissingDependencyError
from streamcodec.server.cluster.bus import Bus
from streamcodec.server.cluster.nats_settings import NatsSettings

__all__ = ["nats_bus"]


def nats_bus(settings: NatsSettings) -> Bus:
    """The bus that `settings` describe, not yet open. Raises `MissingDependencyError` without the extra `cluster`."""
    try:
        from streamcodec.server.cluster.nats import NatsBus
    except ImportError as exc:
        raise MissingDependencyError(f"a cluster needs {exc.name}: pip install 'streamcodec[cluster]'") from exc
    return NatsBus(settings)
