"""Writes the recordings of all streams, on one thread: a disk that is slow or full costs recordings, and no stream anything."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable

from prometheus_client.core import Metric

from streamcodec.config import CodecConfig
from streamcodec.errors import explain
from streamcodec.protocol import ModelInfo, Packet, StreamEnd
from streamcodec.recording import RecordedEvent, RecordingFile
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.info import StreamInfo
from streamcodec.server.metrics import counter_family, gauge_family
from streamcodec.server.recording.backlog import Backlog
from streamcodec.server.recording.entry import RecordedFanOut
from streamcodec.server.recording.folder import RecordingFolder

__all__ = ["Recorder"]

_MESSAGE_BYTES = 400  # a start or a gap takes less
_PACKET_BYTES = 80  # beside its payload, a mark included

log = logging.getLogger("streamcodec.server")


class Recorder:
    """Records streams into the files of `folder`: what has come is written every `every_s`, and `most_s` of a stream may wait at most."""

    def __init__(self, folder: RecordingFolder, model: ModelInfo, config: CodecConfig, program: str, every_s: float, most_s: float) -> None:
        self._folder = folder
        self._model = model
        self._config = config
        self._program = program
        self._every_s = every_s
        self._most_s = most_s
        self._streams: set[_StreamWriter] = set()
        self._changed = threading.Lock()  # of `_streams`
        self._wake = threading.Event()
        self._stopping = False
        self._bytes = self._packets = self._failed = self._dropped = 0
        # A disk that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="streamcodec-record", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Write what waits and close all files; returns whether that was done in time."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def record(self, info: StreamInfo, fan_out: FanOut) -> RecordedFanOut:
        """The entry of a stream that is recorded from its first packet on. The file is made with that packet."""
        writer = _StreamWriter(info.name, Backlog(self._most_s))
        with self._changed:
            self._streams.add(writer)
        return RecordedFanOut(info.name, fan_out, writer.backlog, self._config)

    def families(self) -> Iterable[Metric]:
        """For `Metrics.collect_from`."""
        with self._changed:
            waiting = list(self._streams)
        dropped = self._dropped + sum(writer.backlog.dropped for writer in waiting)
        yield gauge_family("recordings", "Files that are being recorded.", sum(writer.file is not None for writer in waiting))
        yield gauge_family("recordings_bytes", "Bytes that the folder's recordings take.", self._folder.used)
        yield counter_family("recorded_bytes", "Bytes that were recorded.", self._bytes)
        yield counter_family("packets_recorded", "Packets that were recorded.", self._packets)
        yield counter_family("packets_unrecorded", "Packets that are missing in recordings, as the disk was too slow.", dropped)
        yield counter_family("recordings_failed", "Recordings that ended before their stream: a full disk, a used-up quota.", self._failed)
        yield counter_family("recordings_removed", "Finished recordings that were removed to keep the quota.", self._folder.removed)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._every_s)
            stopping = self._stopping
            with self._changed:
                streams = list(self._streams)
            for writer in streams:
                if self._write(writer) or stopping:
                    self._close(writer)
            if stopping:
                return

    def _write(self, writer: _StreamWriter) -> bool:
        """Write what waits of a stream; returns whether nothing more comes."""
        events = writer.backlog.take()
        if not events:
            return writer.backlog.closed
        try:
            if writer.file is None:
                writer.file = self._folder.create(writer.name, self._model, self._program)
                log.info("%s is recorded into %s", writer.name, writer.file.path)
                self._bytes += writer.file.size
            before = writer.file.size
            self._folder.make_room(sum(map(_size, events)))
            writer.file.add(*events)
            self._folder.wrote(writer.file.size - before)
            self._bytes += writer.file.size - before
            self._packets += sum(isinstance(event, Packet) for event in events)
        except Exception as exc:
            self._fail(writer, exc)
            return True
        return isinstance(events[-1], StreamEnd)

    def _close(self, writer: _StreamWriter) -> None:
        with self._changed:
            self._streams.discard(writer)
        self._dropped += writer.backlog.dropped
        writer.backlog.close()
        if writer.file is None:
            return
        self._folder.release(writer.file)
        try:
            writer.file.close()
        except Exception as exc:
            self._fail(writer, exc)
        writer.file = None

    def _fail(self, writer: _StreamWriter, exc: Exception) -> None:
        self._failed += 1
        writer.backlog.close()
        if isinstance(exc, OSError):
            log.error("the recording of %s ends, the stream goes on: %s", writer.name, explain(exc))
        else:
            log.error("the recording of %s ends, the stream goes on", writer.name, exc_info=exc)
        if writer.file is not None:
            self._folder.release(writer.file)
            with contextlib.suppress(OSError):
                writer.file.close()
            writer.file = None


class _StreamWriter:
    """A stream that is recorded; its file from its first packet on, until it ends or fails."""

    def __init__(self, name: str, backlog: Backlog) -> None:
        self.name = name
        self.backlog = backlog
        self.file: RecordingFile | None = None


def _size(event: RecordedEvent) -> int:
    """The bytes that an event takes at most."""
    return len(event.payload) + _PACKET_BYTES if isinstance(event, Packet) else _MESSAGE_BYTES
