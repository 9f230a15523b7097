"""All commands under one name, and what becomes of their result: each returns its exit status, or a coroutine that does.

0 is success, 1 a failure of the outside world (connection, device, a machine that lacks something), 2 a mistake in what was asked for,
130 an interrupt. An error that this package raises on purpose, and one of the operating system, is one line on standard error. Any other is
a bug and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any

import typer
import typer.main

import streamcodec
from streamcodec.cli.admin import admin_app
from streamcodec.cli.convert import convert
from streamcodec.cli.decode import decode
from streamcodec.cli.demo import EXAMPLES as DEMO_EXAMPLES
from streamcodec.cli.demo import demo
from streamcodec.cli.devices import devices
from streamcodec.cli.doctor import doctor
from streamcodec.cli.echo import EXAMPLES as ECHO_EXAMPLES
from streamcodec.cli.echo import echo
from streamcodec.cli.encode import encode
from streamcodec.cli.export import export
from streamcodec.cli.mic import EXAMPLES as MIC_EXAMPLES
from streamcodec.cli.mic import MicCommand, mic
from streamcodec.cli.models import models
from streamcodec.cli.play import EXAMPLES as PLAY_EXAMPLES
from streamcodec.cli.play import play
from streamcodec.cli.process import ending_by_signals, run_coroutine, secure_standard_streams
from streamcodec.cli.record import EXAMPLES as RECORD_EXAMPLES
from streamcodec.cli.record import record
from streamcodec.cli.replay import EXAMPLES as REPLAY_EXAMPLES
from streamcodec.cli.replay import replay
from streamcodec.cli.serve import ServeCommand, serve
from streamcodec.cli.server_process import server_process
from streamcodec.cli.token import token_app
from streamcodec.cli.tokenize import tokenize
from streamcodec.cli.train import PASSED_ON, train
from streamcodec.errors import InputError, LocalProtocolError, ModelError, StreamCodecError, explain

__all__ = ["main", "parse", "run_coroutine"]

OVERVIEW = """Live speech as neural-codec tokens.

\b
streamcodec demo      hear it: server, microphone and playback in one go
streamcodec serve     run the server; then, in other terminals:
streamcodec mic       publish a microphone, a file or a pipe
streamcodec play      play what is published, or write it to a file or a pipe
streamcodec record    keep its packets; replay publishes them again
streamcodec doctor    what would not work here, and what to install
"""

# What only some commands need, and the extras bring.
_OPTIONAL = ("torch", "safetensors", "numba", "llvmlite")

# Help is plain text and errors are one line: no markup, and no traceback of another kind than Python's.
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"streamcodec {streamcodec.__version__}")
        raise typer.Exit


@app.callback(help=OVERVIEW, invoke_without_command=True)
def _overview(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,  # noqa: ARG001
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


app.command(cls=ServeCommand)(serve)
app.command("server-process", hidden=True)(server_process)
app.command(epilog=MIC_EXAMPLES, cls=MicCommand)(mic)
app.command(epilog=PLAY_EXAMPLES)(play)
app.command(epilog=RECORD_EXAMPLES)(record)
app.command(epilog=REPLAY_EXAMPLES)(replay)
app.command(epilog=ECHO_EXAMPLES)(echo)
app.command(epilog=DEMO_EXAMPLES)(demo)
app.command()(encode)
app.command()(decode)
app.command()(tokenize)
app.command()(convert)
app.command()(export)
app.command()(models)
app.command(context_settings=PASSED_ON, add_help_option=False)(train)
app.add_typer(token_app, name="token")
app.add_typer(admin_app, name="admin")
app.command()(devices)
app.command()(doctor)


def parse(argv: Sequence[str]) -> int | Coroutine[Any, Any, int]:
    """Run the command that `argv` asks for; its exit status, or what is to be awaited for it.

    Raises `typer.Exit` where nothing is left to do, and another of typer's exceptions for a mistake in `argv`.
    """
    command = typer.main.get_command(app)
    with command.make_context("streamcodec", list(argv)) as context:
        outcome: int | Coroutine[Any, Any, int] = command.invoke(context)
    return outcome


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return its exit status."""
    # Converting a model takes seconds: the user is told what is going on.
    told = logging.StreamHandler()
    told.setFormatter(logging.Formatter("%(message)s"))
    logs = [logging.getLogger(name) for name in ("streamcodec.engine", "streamcodec.audio")]
    for log in logs:
        log.addHandler(told)
        log.setLevel(logging.INFO)
        log.propagate = False
    secure_standard_streams()
    with ending_by_signals() as interrupts:
        try:
            status = _run(sys.argv[1:] if argv is None else argv)
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
        except BrokenPipeError:
            # The reader of our output has enough; what Python still wants to flush has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (Exception, KeyboardInterrupt) as exc:
            if interrupts.count or isinstance(exc, KeyboardInterrupt):
                return 130
            raise
        finally:
            for log in logs:
                log.removeHandler(told)


def _run(argv: Sequence[str]) -> int:
    try:
        outcome = parse(argv)
        return run_coroutine(outcome) if inspect.iscoroutine(outcome) else outcome  # type: ignore[return-value]
    except typer.Exit as exc:
        return exc.exit_code
    except typer.TyperException as exc:
        return _complain_of_usage(exc)
    except (InputError, ModelError, LocalProtocolError) as exc:
        return _complain("streamcodec", str(exc), 2)
    except StreamCodecError as exc:
        return _complain("streamcodec", str(exc), 1)
    except BrokenPipeError:
        raise
    except OSError as exc:
        return _complain("streamcodec", explain(exc), 1)
    except ModuleNotFoundError as exc:
        if exc.name not in _OPTIONAL:
            raise
        return _complain("streamcodec", f"this command needs {exc.name}: pip install 'streamcodec[codec]'", 1)


def _complain_of_usage(exc: typer.TyperException) -> int:
    context = getattr(exc, "ctx", None)
    name = context.command_path if context is not None else "streamcodec"
    message = " ".join(exc.format_message().split()).replace(": Value error, ", ": ").rstrip(".")
    return _complain(name, f"{message[:1].lower()}{message[1:]} (see {name} --help)", exc.exit_code)


def _complain(who: str, message: str, status: int) -> int:
    with contextlib.suppress(OSError):  # nobody reads it any more
        print(f"{who}: {message}", file=sys.stderr, flush=True)
    return status
