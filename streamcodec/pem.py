"""Certificates and keys as PEM files: whom a side trusts and how it proves itself. Errors name the file and tell nothing of it."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from streamcodec.errors import InputError, explain

__all__ = ["load_pair", "trusting_context"]


def trusting_context(authorities: str | Path | None) -> ssl.SSLContext:
    """A client's context that trusts the certificates in a PEM file; None: those of the system's authorities. Raises `InputError`."""
    try:
        return ssl.create_default_context(cafile=authorities)
    except ssl.SSLError as exc:
        raise InputError(f"{authorities}: is no certificate, expected one or more as PEM") from exc
    except OSError as exc:
        raise _about(exc, authorities) from exc


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Let `context` prove itself by the certificate chain in one PEM file with its key in another.

    Raises `InputError` for the key; the certificate was read before.
    """

    def no_password() -> str:
        raise InputError(f"{key}: needs a password, expected a key without one")

    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as exc:
        belongs = exc.reason == "KEY_VALUES_MISMATCH"
        wrong = f"belongs to another certificate than {certificate}" if belongs else "is no private key, expected one as PEM"
        raise InputError(f"{key}: {wrong}") from exc
    except OSError as exc:
        raise _about(exc, key) from exc


def _about(error: OSError, file: str | Path | None) -> InputError:
    if error.filename is None and file is not None:
        error.filename = os.fspath(file)  # OpenSSL's errors name no file
    return InputError(explain(error))
