"""The one place that makes lines of the server's log: for people, or one JSON object a line.

Nothing that a peer has written reaches a line as it is: what is not printable is escaped here, whoever logs it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Literal

from streamcodec.errors import printable

__all__ = ["LogFormat", "SubjectLog", "set_up_logs"]

LogFormat = Literal["text", "json"]

_SUBJECTS = ("connection", "stream", "address", "of_process")
_OWN_HANDLERS = ("streamcodec.engine", "streamcodec.audio")  # the command line tells of these by handlers of their own


class SubjectLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records say whom they are about: a connection by its id, a stream by its name, a peer by its address."""

    def __init__(self, logger: logging.Logger, **subjects: str) -> None:
        super().__init__(logger, dict(subjects))

    def concern(self, **subjects: str) -> None:
        """Let the records to come be about these, too."""
        self.extra = {**(self.extra or {}), **subjects}

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


class _TextFormatter(logging.Formatter):
    """A line for people; a traceback follows in lines of its own, each marked, so that none can look like another record."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname}: "
        told = " ".join(f"{name}={value}" for name, value in _subjects(record).items() if name != "address")
        line = printable(f"{level}{record.getMessage()}{told and f' [{told}]'}")
        marked = [f"  | {printable(part)}" for part in _trace(self, record).splitlines()]
        return "\n".join([f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {line}", *marked])


class _JsonFormatter(logging.Formatter):
    """One object a line, in ASCII: time (UTC), level, logger, message, and the subjects and the traceback where there are some."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        made: dict[str, Any] = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_subjects(record),
        }
        if trace := _trace(self, record):
            made["traceback"] = trace
        return json.dumps(made, ensure_ascii=True, default=str)


def set_up_logs(form: LogFormat, level: int, of_process: int | None = None) -> None:
    """Let this process's records go to standard error in that form: this package's from `level` on, those of libraries from WARNING on.

    Each says `of_process`, where that is given: which of several processes of one server this is.
    """
    formatter = _JsonFormatter() if form == "json" else _TextFormatter()
    handler = logging.StreamHandler(sys.stderr)
    if of_process is not None:
        handler.addFilter(_OfProcess(of_process))
    handler.setFormatter(formatter)
    # Libraries tell the addresses that they ask, and those may be secret.
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("streamcodec").setLevel(level)
    for name in _OWN_HANDLERS:
        for own in logging.getLogger(name).handlers:
            own.setFormatter(formatter)


class _OfProcess(logging.Filter):
    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def filter(self, record: logging.LogRecord) -> bool:
        record.of_process = self._number
        return True


def _subjects(record: logging.LogRecord) -> dict[str, str]:
    """Whom a record is about. An attribute `process` of it is the number that the system gave, which nobody asks for."""
    found = {name: str(value) for name in _SUBJECTS if (value := getattr(record, name, ""))}
    return {name.removeprefix("of_"): value for name, value in found.items()}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] is not None else ""
