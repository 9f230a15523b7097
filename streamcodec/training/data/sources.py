"""Where the embedded voice comes from: Debian packages with recordings of people, and some music, each with its licence.

Only speech that a person spoke is listed; nothing here was synthesised. This file is data: it downloads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["SOURCES", "CorpusSource", "Kind"]

Kind = Literal["speech", "music"]


@dataclass(frozen=True)
class CorpusSource:
    """A set of files of one Debian package: those below the package whose path matches `pattern` (a regular expression, searched).

    A held-out source is never trained on: it is what quality is measured on.
    """

    name: str
    package: str
    licence: str
    what: str
    kind: Kind = "speech"
    pattern: str = ""
    held_out: bool = False


def _asterisk(language: str, what: str, *, held_out: bool = False) -> CorpusSource:
    return CorpusSource(f"asterisk-{language}", f"asterisk-core-sounds-{language}-g722", "CC-BY-SA-3.0", what, held_out=held_out)


def _tuxpaint(language: str, what: str, *, held_out: bool = False) -> CorpusSource:
    pattern = rf"_desc_{language}\.ogg$"
    return CorpusSource(f"tuxpaint-{language}", "tuxpaint-stamps-default", "GPL-2", what, pattern=pattern, held_out=held_out)


SOURCES: tuple[CorpusSource, ...] = (
    CorpusSource("fillets-cs", "fillets-ng-data-cs", "GPL-2+", "Czech, several actors, dialogue, 22 kHz"),
    CorpusSource("fillets-nl", "fillets-ng-data-nl", "GPL-2+", "Dutch, several actors, dialogue, 22 kHz"),
    CorpusSource("klettres", "klettres-data", "GPL-2+", "letters and syllables in many languages and voices, 44 kHz"),
    _asterisk("en", "American English, one voice, 16 kHz", held_out=True),
    _asterisk("es", "Mexican Spanish, one voice, 16 kHz"),
    _asterisk("fr", "Canadian French, one voice, 16 kHz"),
    _asterisk("it", "Italian, one voice, 16 kHz"),
    _asterisk("ru", "Russian, one voice, 16 kHz"),
    _tuxpaint("bg", "Bulgarian, words and sentences, 44 kHz"),
    _tuxpaint("be", "Belarusian, words and sentences, 44 kHz"),
    _tuxpaint("da", "Danish, words and sentences, 44 kHz"),
    _tuxpaint("el", "Greek, words and sentences, 44 kHz", held_out=True),
    _tuxpaint("es", "Spanish, words and sentences, 44 kHz"),
    _tuxpaint("fr", "French, words and sentences, 44 kHz"),
    _tuxpaint("ro", "Romanian, words and sentences, 44 kHz"),
    _tuxpaint("ru", "Russian, words and sentences, 44 kHz"),
    CorpusSource(
        "ktuberling", "ktuberling-data", "GPL-2+", "words in many languages and voices, 44 kHz", pattern=r"/sounds/(?!el/|en/)[^/]+/"
    ),
    CorpusSource("ktuberling-en", "ktuberling-data", "GPL-2+", "English words, 44 kHz", pattern=r"/sounds/en/", held_out=True),
    CorpusSource("ktuberling-el", "ktuberling-data", "GPL-2+", "Greek words, 44 kHz", pattern=r"/sounds/el/", held_out=True),
    CorpusSource("hedgewars", "hedgewars-data", "GPL-2", "shouted character voices, 44 kHz", pattern=r"/voices/(?!Robot/)[^/]+/"),
    CorpusSource("gcin", "gcin-voice", "CC-BY-3.0", "Mandarin syllables, one voice, 44 kHz"),
    CorpusSource("kajongg", "kajongg", "GPL-2+", "German and English words, four voices, 44 kHz"),
    CorpusSource("wesnoth-music", "wesnoth-1.16-music", "GPL-2+", "orchestral music", kind="music"),
    CorpusSource("fillets-music", "fillets-ng-data", "GPL-2+", "electronic music and sound effects", kind="music"),
    CorpusSource("opsound-music", "asterisk-moh-opsound-g722", "CC-BY-SA-3.0", "hold music, 16 kHz", kind="music", held_out=True),
)
