"""How a node reaches NATS: servers, credentials, TLS. What is secret is in no message, no log and no `repr`."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from streamcodec.errors import InputError, explain
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
            without_credentials = re.sub(r"(://|^).*@", r"\1***@", url)
            raise InputError(f"{shown(without_credentials)} names no server of NATS, expected {_EXPECTED}")
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
    `domain` names the JetStream that has them where another one, or none, is nearer. With `ca_file`, or `cert_file` and `key_file`, the
    connection is by TLS. Raises `InputError`.
    """

    servers: tuple[str, ...]
    cluster: str = CLUSTER_NAME
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials_file: Path | None = None
    nkey_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    replicas: int = 1
    domain: str | None = None

    def __post_init__(self) -> None:
        if not self.servers:
            raise InputError(f"no server of NATS is named, expected one at least: {_EXPECTED}")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.cluster):
            raise InputError(f"the cluster is {shown(self.cluster)}, expected 1 to 64 of A-Z a-z 0-9 _ -")
        if self.domain is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.domain):
            raise InputError(f"the domain is {shown(self.domain)}, expected 1 to 64 of A-Z a-z 0-9 _ -")
        if not 1 <= self.replicas <= 5:
            raise InputError(f"the stores are to be on {shown(self.replicas)} servers of NATS, expected 1 to 5")
        if (self.user is None) is not (self.password is None):
            raise InputError("a user of NATS needs a password, and a password a user")
        if self.key_file is not None and self.cert_file is None:
            raise InputError("the key of a certificate for NATS needs the certificate")
        if sum(way is not None for way in (self.user, self.token, self.credentials_file, self.nkey_file)) > 1:
            raise InputError(
                "there are several credentials for NATS, expected one of: user and password, token, credentials file, nkey file"
            )
        for file in (self.credentials_file, self.nkey_file, self.ca_file, self.cert_file, self.key_file):
            _readable(file)
        self.parsed()
        self.credentials()

    def __repr__(self) -> str:
        return f"NatsSettings({', '.join(server.url for server in self.parsed())}; cluster {self.cluster})"

    def parsed(self) -> tuple[NatsServer, ...]:
        """The servers that `servers` names; all are reached by TLS where files for it are given."""
        found = [NatsServer.parse(url) for url in self.servers]
        tls = self.ca_file is not None or self.cert_file is not None
        return tuple(NatsServer(one.host, one.port, tls or one.tls, one.user, one.password) for one in found)

    def credentials(self) -> str | None:
        """What the file of credentials says now. Raises `InputError`, which tells nothing of it."""
        if self.credentials_file is None:
            return None
        try:
            text = self.credentials_file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as exc:
            raise InputError(
                f"the credentials for NATS cannot be read: {explain(exc) if isinstance(exc, OSError) else 'not text'}"
            ) from None
        if not all(re.search(f"-BEGIN {part}-+\n.+\n", text) for part in ("NATS USER JWT", "USER NKEY SEED")):
            raise InputError(f"{self.credentials_file} has no user's JWT and seed, expected what `nsc generate creds` writes")
        return text

    def tls_context(self) -> ssl.SSLContext:
        """What makes a connection by TLS. Raises `InputError`."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as exc:  # an `ssl.SSLError` is one
            raise InputError(f"the files for TLS to NATS cannot be used: {explain(exc)}") from exc
        return context


def _readable(file: Path | None) -> None:
    try:
        if file is not None:
            file.open("rb").close()
    except OSError as exc:
        raise InputError(f"{explain(exc)}, expected a file for NATS that this server may read") from exc
