"""The server's certificate and its key: read from files, checked, and read again when they change, without a connection noticing."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from prometheus_client.core import Metric

from streamcodec.errors import InputError, explain
from streamcodec.pem import load_pair
from streamcodec.server.metrics import counter_family, gauge_family
from streamcodec.server.watched import WatchedFiles

__all__ = ["Certificates"]

log = logging.getLogger("streamcodec.server")


class Certificates:
    """`context` is for the next connection: TLS 1.2 or newer with the certificate chain in one PEM file and its key in another.

    Call `check` every `LOOK_EVERY_S`. Raises `InputError` for files that are no certificate and its key.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate = certificate
        self.key = key
        self.reloads = 0
        self.failed = 0
        self._files = WatchedFiles([certificate, key])
        self.context, self.expires = self._load()

    def check(self) -> None:
        """Read the files again where they have changed. Files that cannot be used leave the certificate that there is, and are told."""
        if not self._files.changed():
            return
        try:
            self.context, self.expires = self._load()
        except InputError as exc:
            self.failed += 1
            log.error("the certificate was replaced by one that cannot be used, so the old one stays: %s", exc)
        else:
            self.reloads += 1
            log.info("the certificate was replaced: new connections get the new one")

    def families(self) -> Iterable[Metric]:
        """For `Metrics.collect_from`."""
        yield gauge_family("tls_certificate_expires_seconds", "When the TLS certificate expires, in seconds since 1970.", self.expires)
        yield counter_family("tls_certificate_reloads", "How often a new TLS certificate was taken.", self.reloads)
        yield counter_family("tls_certificate_failures", "New TLS certificates that could not be used.", self.failed)

    def _load(self) -> tuple[ssl.SSLContext, float]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            expires = x509.load_pem_x509_certificate(self.certificate.read_bytes()).not_valid_after_utc.timestamp()
        except OSError as exc:
            raise InputError(explain(exc)) from exc
        except ValueError as exc:
            raise InputError(f"{self.certificate}: is no certificate, expected one or a chain of them as PEM") from exc
        load_pair(context, self.certificate, self.key)
        return context, expires
