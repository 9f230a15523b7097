"""A real browser with the page in it, for tests."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from programs import needs

from benchmarks.harness.browser import Browser, DrivenPage, missing_for_browser

__all__ = ["Browser", "firefox", "fresh_page", "needs_browser", "needs_firefox"]

_FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")

needs_browser = needs(without=" and ".join(missing_for_browser()) or None)
# Distributions have it as they like, so that its absence is never a failure.
needs_firefox = pytest.mark.skipif(shutil.which("node") is None or _FIREFOX is None, reason="missing here: node or a Firefox")


def firefox(profile: Path) -> DrivenPage:
    """A Firefox with a profile in an empty folder. It knows fewer verbs: see `firefox_driver.mjs`."""
    assert _FIREFOX is not None
    return DrivenPage("firefox_driver.mjs", [_FIREFOX, str(profile)])


@contextlib.asynccontextmanager
async def fresh_page(browser: Browser) -> AsyncIterator[Browser]:
    """The browser with a page that has seen nothing yet, and that must not complain."""
    await browser.do("fresh")
    yield browser
    complaints = await browser.do("complaints")
    assert complaints == [], complaints
