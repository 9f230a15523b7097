"""The live line is redrawn on a terminal, repeated now and then elsewhere, and never in the way of a line that stays."""

from __future__ import annotations

import io

import pytest
from cli_rig import Terminal

from streamcodec.cli.status import LiveLine, progress


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
    monkeypatch.setenv("COLUMNS", "10")
    terminal = Terminal()
    LiveLine(terminal, clock=clock).draw("0123456789abc")
    assert terminal.screen[0].startswith("012345678") and len(terminal.screen[0]) <= 10


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


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_what_a_user_or_a_server_chose_is_neither_markup_nor_a_control_sequence(clock, stream):
    out = stream()
    line = LiveLine(out, clock=clock, log_every_s=0)
    line.note("[bold]no[/] [link=http://a]:smile: \x1b[31m\r\n 1.5")
    told = "[bold]no[/] [link=http://a]:smile: \ufffd[31m\ufffd\ufffd 1.5"
    assert out.getvalue() == told + "\n"
    line.draw("[red]\x1b[2J")
    assert "[red]\ufffd[2J" in out.getvalue()


def test_a_note_is_never_wrapped(clock):
    out = io.StringIO()
    LiveLine(out, clock=clock).note("a" * 300)
    assert out.getvalue() == "a" * 300 + "\n"


def test_progress_is_shown_once_it_takes_more_than_a_second_and_leaves_nothing_behind(clock):
    terminal = Terminal()
    with progress(10.0, "encoding", stream=terminal, clock=clock) as advance:
        advance(1.0)
        assert terminal.getvalue() == ""
        clock.now += 1.1
        advance(4.0)
        assert "encoding  50%" in terminal.screen[0] and "5/10 s" in terminal.screen[0]
    assert terminal.screen == [""]


def test_progress_is_not_shown_where_there_is_no_terminal(clock):
    out = io.StringIO()
    with progress(10.0, "encoding", stream=out, clock=clock) as advance:
        clock.now += 5.0
        advance(10.0)
    assert out.getvalue() == ""
