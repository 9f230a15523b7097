"""Markdown tables and the forms that figures take in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["milliseconds", "percent", "table", "verdict"]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; columns behind the first are set to the right, floats with three significant digits."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|--:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def percent(share: float | None, digits: int = 0) -> str | None:
    """A share of one in percent; None stays None."""
    return None if share is None else f"{100 * share:.{digits}f}%"


def milliseconds(spread: Mapping[str, float], *names: str) -> list[str]:
    """The named percentiles of a spread (ms): with one decimal below 100."""
    return [f"{spread[name]:.0f}" if spread[name] >= 100 else f"{spread[name]:.1f}" for name in names]


def verdict(failures: Sequence[str]) -> str:
    """In bold, whether every check passed, or how many failed and the first of them."""
    if not failures:
        return "**Every check passed.**"
    return f"**{len(failures)} check{'s' if len(failures) > 1 else ''} failed**, the first: {failures[0]}."
