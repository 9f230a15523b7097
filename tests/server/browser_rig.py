"""What tests in a real browser need to be told in advance, and a page that must not complain."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from programs import needs

from benchmarks.harness.browser import Browser, missing_for_browser

__all__ = ["Browser", "fresh_page", "needs_browser"]

needs_browser = needs(without=" and ".join(missing_for_browser()) or None)


@contextlib.asynccontextmanager
async def fresh_page(browser: Browser) -> AsyncIterator[Browser]:
    """The browser with a page that has seen nothing yet, and that must not complain."""
    await browser.do("fresh")
    yield browser
    complaints = await browser.do("complaints")
    assert complaints == [], complaints
