"""What a listener of codes gets, into a file: nothing is decoded, so that no model is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from streamcodec.client.listener import Event, Listener, listen
from streamcodec.errors import printable
from streamcodec.protocol import SILENCE, Gap, ModelInfo, StreamEnd, StreamStart, Waiting
from streamcodec.recording import RecordedEvent, RecordingFile

__all__ = ["StreamRecorder", "model_of"]


async def model_of(url: str, stream: str, token: str | None = None) -> ModelInfo:
    """The model of the server at `url`, which a listener of codes has to name. A listener of PCM need not, and is told."""
    async with listen(url, stream, format="pcm_s16le", token=token) as listener:
        return listener.welcome.model


class StreamRecorder:
    """Writes what listeners of one name get, one connection after the other, into one file.

    `create` makes the file as soon as there is something to write; `file` is None until then. `note` gets a line about each start, loss and
    end.
    """

    def __init__(self, create: Callable[[ModelInfo], RecordingFile], note: Callable[[str], None] = lambda _: None) -> None:
        self.file: RecordingFile | None = None
        self._create = create
        self._note = note

    async def record(self, listener: Listener, *, follow: bool = False, on_event: Callable[[], None] = lambda: None) -> None:
        """Record until the stream ends, or for ever with `follow`.

        Raises as the listener does, and `OSError` where the disk takes no more.
        """
        joins = True
        async for event in listener:
            if isinstance(event, Waiting):
                self._note(f"nobody publishes {event.stream!r} yet: waiting")
            for recorded in self._behind(event, joins):
                if self.file is None:
                    self.file = self._create(listener.welcome.model)
                self.file.add(recorded)
                self._tell(listener, recorded)
            joins = False
            on_event()
            if isinstance(event, StreamEnd) and not follow:
                return

    def close(self) -> None:
        """Write what ends a file, which is on the disk then."""
        if self.file is not None:
            self.file.close()

    def _behind(self, event: Event, joins: bool) -> list[RecordedEvent]:
        """What to write of an event; where a connection `joins`, also what was missed since the last one."""
        cursor = None if self.file is None else self.file.cursor
        missed: list[RecordedEvent] = []
        if joins and cursor is not None and (last := cursor.start) is not None:
            if isinstance(event, StreamStart) and event.session is not None and event.session == last.session:
                if (count := event.live_seq - cursor.next_seq) > 0:
                    missed = [Gap(first_seq=cursor.next_seq, count=count, reason="resumed_late")]
            else:
                missed = [StreamEnd(next_seq=cursor.next_seq, reason="the stream ended while the connection was lost")]
        if isinstance(event, Waiting):
            return missed
        if cursor is None and isinstance(event, StreamStart):
            # What comes first as history is audio of the stream, which the recording begins with.
            return [replace(event, live_seq=event.first_seq)]
        return [*missed, event]

    def _tell(self, listener: Listener, event: RecordedEvent) -> None:
        if isinstance(event, StreamStart):
            self._note(f"{listener.hello.stream!r} begins: {event.bandwidth:g} kbps ({printable(event.reason)})")
        elif isinstance(event, Gap) and event.reason != SILENCE:
            self._note(f"{event.count} packets lost ({printable(event.reason)})")
        elif isinstance(event, StreamEnd):
            self._note(f"{listener.hello.stream!r} ends ({printable(event.reason)})")
