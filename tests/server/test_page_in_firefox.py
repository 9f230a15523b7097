"""The page in Firefox: it decodes what Python publishes."""

from __future__ import annotations

from browser_rig import Browser, needs_firefox
from page_rig import codes_are_heard, heard_for, publishing, served
from server_rig import run

pytestmark = needs_firefox


def test_firefox_decodes_and_plays_what_python_publishes(codec, model, tmp_path):
    async def main():
        async with served(codec, model) as server, publishing(server, codec, bandwidth=6.0):
            firefox = Browser.firefox(tmp_path)
            try:
                await firefox.open(server.page_url)
                assert await firefox.do("evaluate", js="crossOriginIsolated && navigator.userAgent.includes('Firefox')")
                await firefox.do("click", on="#listen")
                await firefox.do("untilText", on="#listen-status", has="Playing “live”")
                await codes_are_heard(firefox)
                await heard_for(firefox, 1)
                assert (await firefox.do("text", on="#lost")).startswith("0 packets")
                assert await firefox.do("evaluate", js="document.querySelector('#listen-notice').hidden")
                await firefox.do("click", on="#listen")
                assert await firefox.do("complaints") == []
            finally:
                firefox.close()

    run(main())
