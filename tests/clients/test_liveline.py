"""The live line is redrawn on a terminal, told now and then elsewhere, and never in the way of a line that stays."""

from __future__ import annotations

import io
import os
import shutil

import pytest

from clients.liveline import LiveLine


class Terminal(io.StringIO):
    """Shows what would be on the screen: `\\r` returns to the start of the line and overwrites."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        lines = [""]
        for character in self.getvalue():
            if character == "\n":
                lines.append("")
                column = 0
            elif character == "\r":
                column = 0
            else:
                column = column if lines[-1] else 0
                lines[-1] = lines[-1][:column].ljust(column) + character + lines[-1][column + 1 :]
                column += 1
        return [line.rstrip() for line in lines]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_terminal_shows_the_latest_status_only(clock):
    terminal = Terminal()
    line = LiveLine(terminal, clock=clock)
    line.draw("a long status line")
    line.draw("short")
    assert terminal.screen == ["short"]


def test_a_note_stays_above_the_status(clock):
    terminal = Terminal()
    line = LiveLine(terminal, clock=clock)
    line.draw("a status that is longer than the note")
    line.note("a note")
    line.draw("status")
    assert terminal.screen == ["a note", "status"]


def test_clearing_leaves_nothing_behind(clock):
    terminal = Terminal()
    line = LiveLine(terminal, clock=clock)
    line.draw("status")
    line.clear()
    line.clear()
    assert terminal.screen == [""]


def test_a_status_is_cut_to_the_width_of_the_terminal(clock, monkeypatch):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((10, 24)))
    terminal = Terminal()
    LiveLine(terminal, clock=clock).draw("0123456789abc")
    assert terminal.screen == ["012345678"]


def test_a_terminal_is_drawn_at_once_and_then_every_tenth_of_a_second(clock):
    line = LiveLine(Terminal(), clock=clock)
    assert line.due()
    line.draw("status")
    clock.now += 0.09
    assert not line.due()
    clock.now += 0.02
    assert line.due()


def test_elsewhere_a_status_is_a_line_of_its_own_every_few_seconds(clock):
    log = io.StringIO()
    line = LiveLine(log, clock=clock, log_every_s=5.0)
    assert not line.due()
    clock.now += 5.0
    assert line.due()
    line.draw("first")
    assert not line.due()
    line.note("a note")
    line.draw("second, which is not cut")
    line.clear()
    assert log.getvalue() == "first\na note\nsecond, which is not cut\n"


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_quiet_line_is_never_due_but_notes_are_printed(clock, stream):
    out = stream()
    line = LiveLine(out, quiet=True, clock=clock)
    clock.now += 1000
    assert not line.due()
    line.note("a note")
    assert out.getvalue() == "a note\n"


def test_standard_error_is_where_it_goes_by_default(capsys):
    LiveLine().note("a note")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "a note\n")
