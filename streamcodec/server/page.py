"""The page and the server's model for it, as files that a browser is given: which there are, and how each is sent.

The build has left the page's parts compressed, with hashes of their content in their names (`clients/web/build.mjs`). The model is exported
when the server starts. This file knows requests and bytes, not sockets.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import logging
import tempfile
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources.abc import Traversable
from pathlib import Path

import brotli
from websockets.datastructures import Headers

from streamcodec.errors import StreamCodecError

__all__ = ["Answer", "Page"]

_PACKED = ".br"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
# The page gets nothing from anywhere else and runs nothing but its files; being isolated, its threads may share memory.
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = logging.getLogger("streamcodec.server")


@dataclass(frozen=True)
class Answer:
    """An answer to a GET: its status, its headers and its body. With `packed`, the body is still compressed and must be unpacked first."""

    status: HTTPStatus
    headers: dict[str, str]
    body: bytes
    packed: bool = False

    def unpacked(self) -> Answer:
        """The same with its body unpacked; that takes up to a tenth of a second."""
        return Answer(self.status, self.headers, brotli.decompress(self.body))

    def head(self) -> bytes:
        """The bytes in front of the body."""
        headers = {**self.headers, **_SECURITY, "Content-Length": str(len(self.body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


@dataclass(frozen=True)
class _File:
    body: bytes
    media_type: str
    packed: bool
    caching: str
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes, *, caching: str) -> _File:
        packed = name.endswith(_PACKED)
        media_type = _MEDIA_TYPES.get(Path(name.removesuffix(_PACKED)).suffix, "application/octet-stream")
        return cls(body, media_type, packed, caching, f'"{hashlib.sha256(body).hexdigest()[:16]}"')

    def answer(self, headers: Headers) -> Answer:
        described = {"Content-Type": self.media_type, "Cache-Control": self.caching, "ETag": self.etag, "Vary": "Accept-Encoding"}
        if self.etag in headers.get_all("If-None-Match"):
            return Answer(HTTPStatus.NOT_MODIFIED, described, b"")
        if not self.packed:
            return Answer(HTTPStatus.OK, described, self.body)
        if _accepts_packed(headers):
            return Answer(HTTPStatus.OK, {**described, "Content-Encoding": "br"}, self.body)
        return Answer(HTTPStatus.OK, described, self.body, packed=True)


class Page:
    """The files of the page, and those of `model`: a name, a file, a folder or a hub id, the one that the server runs.

    `is_built` is False in a checkout whose page was removed; then nothing is served. `export` reads and converts the model and takes a
    second or more; until then a browser is told to ask again. Where several processes serve one model, the first one to export it leaves
    what it has made in the folder `kept`, for the others.
    """

    def __init__(self, model: str | Path, folder: Traversable | None = None, kept: Path | None = None) -> None:
        self._model = model
        self._kept = kept
        self._model_is_coming = True
        self._files: dict[str, _File] = {}
        folder = folder or importlib.resources.files("streamcodec.server").joinpath("page")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name) if folder.is_dir() else ():
            name = entry.name.removesuffix(_PACKED)
            path = "/" if name == "index.html" else f"/{name}"
            self._files[path] = _File.of(entry.name, entry.read_bytes(), caching=_ASK_AGAIN if path == "/" else _FOR_EVER)

    @property
    def is_built(self) -> bool:
        """Whether there is a page to serve."""
        return "/" in self._files

    def export(self) -> None:
        """Make the model's files, in any thread. A model that cannot be exported is told in the log: the page then lets the server code."""
        try:
            found = self._exported()
        except (StreamCodecError, OSError) as exc:
            log.info("the page gets no model: %s", exc)
        except Exception:  # a library's own: the server goes on without it
            log.exception("the page gets no model")
        else:
            self._files |= found
        self._model_is_coming = False

    def answer(self, path: str, headers: Headers) -> Answer | None:
        """The answer to a GET of `path`, without its query; None where the page has nothing there."""
        found = self._files.get(path)
        if found is not None:
            return found.answer(headers)
        if not path.startswith("/model/") or not self.is_built:
            return None
        status, told = (
            (HTTPStatus.SERVICE_UNAVAILABLE, b"the model is not ready yet\n")
            if self._model_is_coming
            else (HTTPStatus.NOT_FOUND, b"there is no such file of the model\n")
        )
        return Answer(status, {"Content-Type": "text/plain", "Cache-Control": "no-store", "Retry-After": "1"}, told)

    def _exported(self) -> dict[str, _File]:
        import json

        from streamcodec.codec.export import export_model
        from streamcodec.engine.onnx.export import MANIFEST

        if self._kept is not None and self._kept.is_dir():
            contents = {file.name: file.read_bytes() for file in self._kept.iterdir()}
        else:
            # Where it is to be kept, it is there as a whole or not at all.
            with tempfile.TemporaryDirectory(prefix="streamcodec-", dir=self._kept and self._kept.parent) as folder:
                made = Path(folder) / "model"
                contents = {file.name: file.read_bytes() for file in export_model(self._model, made)}
                if self._kept is not None:
                    made.rename(self._kept)
        base = f"/model/{json.loads(contents[MANIFEST])['weights_fingerprint']}"
        found = {f"{base}/{name}": _File.of(name, body, caching=_FOR_EVER) for name, body in contents.items() if name != MANIFEST}
        return found | {f"/model/{MANIFEST}": _File.of(MANIFEST, contents[MANIFEST], caching=_ASK_AGAIN)}


def _accepts_packed(headers: Headers) -> bool:
    offered = ",".join(headers.get_all("Accept-Encoding")).lower().split(",")
    return any(one.partition(";")[0].strip() == "br" and one.partition("q=")[2].strip() not in ("0", "0.0") for one in offered)
