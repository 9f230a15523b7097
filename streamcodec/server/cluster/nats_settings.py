"""How a node reaches NATS: servers, credentials, TLS. What is secret is in no message, no log and no `repr`."""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from streamcodec.errors import InputError, explain, without_credentials
from streamcodec.pem import load_pair, trusting_context
from streamcodec.protocol.fields import shown
from streamcodec.server.cluster.subjects import CLUSTER_NAME

__all__ = ["NatsServer", "NatsSettings"]

_DEFAULT_PORT = 4222
_SCHEMES = ("nats", "tls")
_EXPECTED = "nats://HOST:PORT or tls://HOST:PORT"


@dataclass(frozen=True)
class NatsServer:
    """One server of NATS. `tls` says that nothing secret goes to it in the clear."""

    host: str
    port: int
    tls: bool
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> NatsServer:
        """The server that a URL names. Raises `InputError`, which tells no user and no password."""
        try:
            parts = urlsplit(url if "://" in url else f"nats://{url}")
            host, port = parts.hostname, parts.port or _DEFAULT_PORT
        except ValueError:
            parts, host, port = urlsplit(""), None, 0
        if host is None or parts.scheme not in _SCHEMES or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise InputError(f"{shown(without_credentials(url))} names no server of NATS, expected {_EXPECTED}")
        return cls(host, port, parts.scheme == "tls", parts.username, parts.password)

    @property
    def url(self) -> str:
        """Its URL, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'nats'}://{host}:{self.port}"


@dataclass(frozen=True)
class NatsSettings:
    """Where the servers of NATS are, and how a node proves who it is: by a user and password, a token, a credentials file or a seed's file.

    `cluster` is part of all subjects, so several clusters may share one NATS. `replicas` is on how many servers the stores are kept, and
    `domain` names the JetStream that has them where another one, or none, is nearer. Servers with TLS are trusted where an authority in
    `tls_ca` has signed them, and a node proves itself by `tls_certificate` with its `tls_key`: PEM files that are read for each connection.
    Raises `InputError`, which names the setting of `serve`.
    """

    servers: tuple[str, ...]
    cluster: str = CLUSTER_NAME
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials_file: Path | None = None
    nkey_file: Path | None = None
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    replicas: int = 1
    domain: str | None = None

    def __post_init__(self) -> None:
        if not self.servers:
            raise InputError(f"no server of NATS is named, expected one at least: {_EXPECTED}")
        for what, name in (("cluster", self.cluster), ("domain", self.domain)):
            if name is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
                raise InputError(f"the {what} is {shown(name)}, expected 1 to 64 of A-Z a-z 0-9 _ -")
        if not 1 <= self.replicas <= 5:
            raise InputError(f"the stores are to be on {shown(self.replicas)} servers of NATS, expected 1 to 5")
        if (self.user is None) is not (self.password is None):
            raise InputError("a user of NATS needs a password, and a password a user")
        if sum(way is not None for way in (self.user, self.token, self.credentials_file, self.nkey_file)) > 1:
            raise InputError(
                "there are several credentials for NATS, expected one of: user and password, token, credentials file, nkey file"
            )
        self._check_tls()
        if self.nkey_file is not None:
            with _setting("the seed for NATS"):
                _bytes_of(self.nkey_file)
        self.credentials()

    def __repr__(self) -> str:
        return f"NatsSettings({', '.join(server.url for server in self.parsed())}; cluster {self.cluster})"

    def parsed(self) -> tuple[NatsServer, ...]:
        """The servers that `servers` names."""
        return tuple(map(NatsServer.parse, self.servers))

    def credentials(self) -> str | None:
        """What the file of credentials says now. Raises `InputError`, which tells nothing of it."""
        if self.credentials_file is None:
            return None
        expected = "expected what `nsc generate creds` writes"
        with _setting("cluster_credentials"):
            try:
                text = _bytes_of(self.credentials_file).decode("ascii")
            except UnicodeDecodeError:
                raise InputError(f"{self.credentials_file}: is no text, {expected}") from None
            if not all(re.search(f"-BEGIN {part}-+\n.+\n", text) for part in ("NATS USER JWT", "USER NKEY SEED")):
                raise InputError(f"{self.credentials_file}: has no user's JWT and seed, {expected}")
        return text

    def tls_context(self) -> ssl.SSLContext:
        """What makes a connection by TLS, from what the files say now. Raises `InputError`."""
        with _setting("cluster_tls_ca"):
            context = trusting_context(self.tls_ca)
        if self.tls_certificate is not None and self.tls_key is not None:
            with _setting("cluster_tls_certificate"):
                trusting_context(self.tls_certificate)  # whether it is a certificate
            with _setting("cluster_tls_key"):
                load_pair(context, self.tls_certificate, self.tls_key)
        return context

    def _check_tls(self) -> None:
        files = {"cluster_tls_ca": self.tls_ca, "cluster_tls_certificate": self.tls_certificate, "cluster_tls_key": self.tls_key}
        given = [name for name, file in files.items() if file is not None]
        for server in self.parsed():
            if given and not server.tls:
                raise InputError(f"{given[0]} is for TLS, and cluster names {shown(server.url)}: expected a URL that begins with tls:")
        if (self.tls_certificate is None) is not (self.tls_key is None):
            found, missing = ("certificate", "key") if self.tls_key is None else ("key", "certificate")
            raise InputError(f"cluster_tls_{found} is given alone, expected cluster_tls_{missing} with it")
        if given:
            self.tls_context()


@contextlib.contextmanager
def _setting(name: str) -> Iterator[None]:
    """Errors of within say which setting they are about."""
    try:
        yield
    except InputError as exc:
        raise InputError(f"{name}: {exc}") from exc


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise InputError(f"{explain(exc)}, expected a file that this server may read") from exc
