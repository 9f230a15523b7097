"""All that can be set, with its defaults; those of the limits are in `limits.py`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from streamcodec.defaults import DEFAULT_HOST, DEFAULT_PORT
from streamcodec.engine.base import EngineName, PrecisionName
from streamcodec.errors import InputError
from streamcodec.model.hub import DEFAULT_MODEL
from streamcodec.server.auth.asking import checked_url
from streamcodec.server.cluster.nats_settings import NatsServer
from streamcodec.server.cluster.subjects import CLUSTER_NAME, Subjects
from streamcodec.server.draining import DEFAULT_DRAIN_S, checked_address
from streamcodec.server.limits import Count, Limits
from streamcodec.server.logs import LogFormat
from streamcodec.server.proxies import ForwardedHeader, Proxies
from streamcodec.server.settings.sizes import size_of_bytes
from streamcodec.server.sites import Sites

__all__ = ["SECRETS", "Settings"]

SECRETS = ("publish_token", "listen_token", "token_keys", "auth_url_token", "admin_token", "webhook_secret")
"""Settings that no flag sets and nothing shows."""


def _split(value: Any) -> Any:
    """Several values in one environment variable stand between commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _nats_url(value: str) -> str:
    if NatsServer.parse(value).user is not None:
        # Lists of processes show flags, and `--print-config` shows settings.
        raise InputError("a URL of NATS has credentials in it, expected a file of them: cluster_credentials")
    return value


def _token(value: str) -> str:
    Subjects(value)
    return value


Port = Annotated[int, Ge(0), Le(65_535)]
Url = Annotated[str, AfterValidator(partial(checked_url, what="the URL"))]
Size = Annotated[int, BeforeValidator(size_of_bytes)]
NatsUrl = Annotated[str, AfterValidator(_nats_url)]
Several = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """What `serve` is told. A key of the file is a field's name; a limit's is in the table `limits`."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, nested_model_default_partial_update=True, protected_namespaces=()
    )

    host: str = DEFAULT_HOST
    port: Port = DEFAULT_PORT
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    private_host: str = DEFAULT_HOST
    private_port: Port | None = None
    model: str = DEFAULT_MODEL
    device: str = "cpu"
    engine: EngineName = "auto"
    precision: PrecisionName = "fp32"
    threads: Count | None = None
    processes: Count = 1
    publish_token: SecretStr | None = None
    publish_token_file: Path | None = None
    listen_token: SecretStr | None = None
    listen_token_file: Path | None = None
    token_keys: SecretStr | None = None
    token_keys_file: Path | None = None
    auth_url: Url | None = None
    auth_url_token: SecretStr | None = None
    auth_url_token_file: Path | None = None
    admin_token: SecretStr | None = None
    admin_token_file: Path | None = None
    webhook: Url | None = None
    webhook_secret: SecretStr | None = None
    webhook_secret_file: Path | None = None
    drain_seconds: Annotated[float, Ge(1), Le(86_400)] = DEFAULT_DRAIN_S
    drain_to: Annotated[str, AfterValidator(checked_address)] | None = None
    insecure: bool = False
    allow_origin: Several = ()
    allow_host: Several = ()
    trusted_proxy: Several = ()
    forwarded_header: ForwardedHeader = "x-forwarded-for"
    record: Path | None = None
    record_quota: Size | None = None
    record_rotate: bool = False
    echo: bool = False
    cluster: Annotated[tuple[NatsUrl, ...], NoDecode, BeforeValidator(_split)] = ()
    cluster_name: Annotated[str, AfterValidator(_token)] = CLUSTER_NAME
    cluster_address: Annotated[str, AfterValidator(checked_address)] | None = None
    cluster_credentials: Path | None = None
    cluster_replicas: Annotated[int, Ge(1), Le(5)] = 1
    cluster_domain: Annotated[str, AfterValidator(_token)] | None = None
    cluster_tls_ca: Path | None = None
    cluster_tls_certificate: Path | None = None
    cluster_tls_key: Path | None = None
    replicate: bool = False
    page: bool = True
    log_format: LogFormat = "text"
    verbose: bool = False
    limits: Limits = Limits()

    @field_validator("limits", mode="before")
    @classmethod
    def _no_capacity(cls, value: Any) -> Any:
        off = isinstance(value, dict) and value.get("capacity") == "off"
        return {**value, "capacity": None} if off else value

    @field_validator("allow_origin")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(Sites(origins=value).origins)

    @field_validator("allow_host")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(Sites(hosts=value).hosts)

    @field_validator("trusted_proxy")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(Proxies(value).trusted)
