"""Which servers' certificates a client trusts: those of the system's authorities, or those that its user names."""

from __future__ import annotations

import ssl
from pathlib import Path

from streamcodec.errors import InputError
from streamcodec.pem import trusting_context

__all__ = ["trusting"]


def trusting(url: str, tls_ca: str | Path | None) -> ssl.SSLContext | None:
    """The context that trusts the authorities, or a server's own certificate, in the PEM file `tls_ca`; None: those of the system.

    Raises `InputError` for a file that holds none, and for a `url` without TLS.
    """
    if tls_ca is None:
        return None
    if not url.startswith("wss:"):
        raise InputError(f"{url!r} has no TLS, so no certificate is looked at: expected a URL that begins with wss:")
    return trusting_context(tls_ca)
