"""`streamcodec serve`: run the server until it is interrupted."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import typer.core

from streamcodec.cli.options import EngineName, PrecisionName, number, port_number, positive_int

__all__ = ["OTHER_NAMES", "ServeCommand", "serve"]

OTHER_NAMES = {
    "capacity": "limits.capacity",
    "max_publishers": "limits.max_publishers",
    "max_listeners": "limits.max_listeners",
    "max_per_address": "limits.max_connections_per_address",
}
"""Flags whose settings have other names."""
_NO_SETTINGS = ("config", "print_config", "help")


class ServeCommand(typer.core.TyperCommand):
    """A command whose help tells the defaults of the settings: they take a while to load, so nothing else waits for them."""

    def get_help(self, ctx: Any) -> str:
        """The help, with the defaults in it."""
        options = [param for param in self.params if param.name not in _NO_SETTINGS]
        for option in options:
            option.default = _default(option.name or "")
        try:
            return super().get_help(ctx)
        finally:
            for option in options:
                option.default = None


def _default(flag: str) -> Any:
    from streamcodec.server.settings import Settings

    value: Any = Settings.model_construct()
    for part in OTHER_NAMES.get(flag, flag).split("."):
        value = getattr(value, part)
    return value or None


def _capacity(text: str) -> str:
    if text not in ("auto", "off") and (not text.strip().isdecimal() or int(text) < 1):
        raise typer.BadParameter(f"{text!r} is neither auto, off nor a whole number above 0")
    return text


def serve(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="STREAMCODEC_CONFIG",
            help="Take the settings from this TOML file; flags and variables of the environment come first.",
        ),
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print all settings but secrets as such a file.")] = False,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The address to listen on; 0.0.0.0 for every network, :: with IPv6.")
    ] = None,
    port: Annotated[int | None, typer.Option(parser=port_number, metavar="PORT", help="The port; 0 takes any free one.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The model: an embedded name, a file, a folder or a hub id.")] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="The device, by torch's name; cuda is untested.")] = None,
    engine: Annotated[EngineName | None, typer.Option(help="What runs the model; auto is the fastest that is installed.")] = None,
    precision: Annotated[
        PrecisionName | None,
        typer.Option(help="bf16 is faster and gives other codes than the published code; auto is bf16 where the processor has it."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            parser=positive_int,
            metavar="N",
            help="Run N steps of the model at a time, each on a thread of its own (default: as many as there are processors for this "
            "program).",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            parser=positive_int,
            metavar="N",
            help="Serve by N processes behind the one port, each with its share of processors, threads and limits; on Linux.",
        ),
    ] = None,
    capacity: Annotated[
        str | None,
        typer.Option(
            parser=_capacity,
            metavar="N",
            help="Refuse more than N streams to encode or decode; auto: as many as this machine can run in time, by its own measurement; "
            "off: no limit.",
        ),
    ] = None,
    max_publishers: Annotated[int | None, typer.Option(parser=positive_int, metavar="N", help="Refuse more publishers than this.")] = None,
    max_listeners: Annotated[int | None, typer.Option(parser=positive_int, metavar="N", help="Refuse more listeners than this.")] = None,
    max_per_address: Annotated[
        int | None,
        typer.Option(parser=positive_int, metavar="N", help="Refuse more connections than this of one address, but for this machine."),
    ] = None,
    publish_token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Tokens that allow to publish, one a line; also $STREAMCODEC_PUBLISH_TOKEN."),
    ] = None,
    listen_token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Tokens that allow to listen, one a line; also $STREAMCODEC_LISTEN_TOKEN."),
    ] = None,
    token_keys_file: Annotated[
        Path | None,
        typer.Option(
            "--token-keys",
            "--token-keys-file",
            metavar="FILE",
            help="Keys of signed tokens, see `token`: a JSON Web Key Set; also $STREAMCODEC_TOKEN_KEYS.",
        ),
    ] = None,
    auth_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask this program what a client may do whose token no key here has signed.")
    ] = None,
    auth_url_token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A token that proves to it who asks; also $STREAMCODEC_AUTH_URL_TOKEN.")
    ] = None,
    admin_token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The token of `streamcodec admin`, which needs a private port; also $STREAMCODEC_ADMIN_TOKEN."),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure/--no-insecure", help="Let everybody who reaches the port publish and listen, from other machines too."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Let pages of this website connect, as in https://example.org; * is every website. May be repeated."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which a proxy in front of a server on 127.0.0.1 asks for it. May be repeated."),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Believe the proxies of this network when they say whom they pass on. May be repeated."),
    ] = None,
    forwarded_header: Annotated[
        Literal["x-forwarded-for", "forwarded"] | None, typer.Option(help="The header in which those proxies say it.")
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Speak TLS (https, wss) with this certificate, or chain of them, as PEM; read again on change."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The private key of the certificate, as PEM.")] = None,
    private_port: Annotated[
        int | None,
        typer.Option(
            parser=port_number,
            metavar="PORT",
            help="Answer /healthz, /readyz and /metrics on a port of their own, for whoever runs the server; 0 takes any free one.",
        ),
    ] = None,
    private_host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The address of the private port; others than this machine reach it where it is public."),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Tell this program of streams that start, end and have gaps, and of refusals.")
    ] = None,
    webhook_secret_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The secret that signs this, whsec_...; also $STREAMCODEC_WEBHOOK_SECRET.")
    ] = None,
    drain_seconds: Annotated[
        float | None,
        typer.Option(parser=number(1, 86_400), metavar="S", help="A stop by SIGTERM takes so long at most; clients are told to leave."),
    ] = None,
    drain_to: Annotated[
        str | None, typer.Option(metavar="URL", help="Where clients are told to go then, as in wss://voice.example.org.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Record every stream, each into a file of its own in this folder.")
    ] = None,
    record_quota: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="The recordings in the folder may take so much in all, as in 500MB or 2GB; then no more is recorded (default: no bound).",
        ),
    ] = None,
    record_rotate: Annotated[
        bool | None,
        typer.Option(
            "--record-rotate/--no-record-rotate",
            help="Remove the oldest finished recordings instead, where the quota is used up.",
        ),
    ] = None,
    echo: Annotated[
        bool | None,
        typer.Option(
            "--echo/--no-echo",
            help="Let everybody test their connection: streams named echo.* need no token, 16 at a time, 2 of an address, 5 min each.",
        ),
    ] = None,
    cluster: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Be a node of the cluster that meets at this NATS server, as in nats://10.0.0.5. May be repeated."
        ),
    ] = None,
    cluster_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of the clusters that share the NATS servers: A-Z a-z 0-9 _ -.")
    ] = None,
    cluster_address: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where clients reach this node, as in wss://voice-1.example.org (default: host and port)."),
    ] = None,
    cluster_credentials: Annotated[
        Path | None, typer.Option(metavar="FILE", help="By which the NATS servers know this node: a .creds file.")
    ] = None,
    cluster_replicas: Annotated[
        int | None,
        typer.Option(metavar="N", help="On how many servers NATS keeps names and nodes: 1 to 5, 3 where there are three or more."),
    ] = None,
    cluster_domain: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The JetStream domain with names and nodes, where this node is at a leaf node of NATS."),
    ] = None,
    cluster_tls_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Trust NATS servers that an authority in this PEM file has signed (default: the system's).",
        ),
    ] = None,
    cluster_tls_certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Show this certificate, or chain of them, to NATS servers that ask for one; PEM."),
    ] = None,
    cluster_tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The private key of that certificate, as PEM.")] = None,
    replicate: Annotated[
        bool | None,
        typer.Option(
            "--replicate/--no-replicate",
            help="Let the other nodes have a copy of each stream's state, every second, so that it goes on where this node dies.",
        ),
    ] = None,
    page: Annotated[bool | None, typer.Option("--page/--no-page", help="Serve a page for browsers at /.")] = None,
    log_format: Annotated[
        Literal["text", "json"] | None, typer.Option(help="How the log is written: lines for people, or one JSON object a line.")
    ] = None,
    verbose: Annotated[bool | None, typer.Option("--verbose/--no-verbose", help="Log more.")] = None,
) -> Coroutine[Any, Any, int] | int:
    """Run the server until it is interrupted."""
    from streamcodec.server.settings import read_settings, written

    options = {param.name: max(param.opts, key=len) for param in context.command.params if param.name not in _NO_SETTINGS}
    given = {name: context.params[name] for name in options if name and context.params[name] not in (None, [], ())}
    settings, origins = read_settings(
        {OTHER_NAMES.get(name, name): value for name, value in given.items()},
        config,
        {OTHER_NAMES.get(name, name): flag for name, flag in options.items() if name},
    )
    if print_config:
        print(written(settings, origins), end="")
        return 0
    if settings.processes > 1:
        from streamcodec.cli.processes import run_processes

        return run_processes(settings, origins)
    from streamcodec.cli.serving import run_server

    return run_server(settings, origins)
