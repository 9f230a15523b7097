"""The page in Firefox: it decodes what Python publishes."""

from __future__ import annotations

from browser_rig import firefox, needs_firefox
from page_rig import codes_are_heard, heard_for, publishing, served
from server_rig import run

pytestmark = needs_firefox


def test_firefox_decodes_and_plays_what_python_publishes(codec, model, tmp_path):
    async def main():
        async with served(codec, model) as server, publishing(server, codec, bandwidth=6.0):
            page = firefox(tmp_path)
            try:
                await page.open(server.page_url)
                assert await page.do("evaluate", js="crossOriginIsolated && navigator.userAgent.includes('Firefox')")
                await page.do("click", on="#listen")
                await page.do("untilText", on="#listen-status", has="Playing “live”")
                await codes_are_heard(page)
                await heard_for(page, 1)
                assert (await page.do("text", on="#lost")).startswith("0 packets")
                assert await page.do("evaluate", js="document.querySelector('#listen-notice').hidden")
                await page.do("click", on="#listen")
                assert await page.do("complaints") == []
            finally:
                page.close()

    run(main())
