"""How the page looks: on a desktop and on a phone, light and dark, talking, listening and refused.

With `STREAMCODEC_PICTURES=FOLDER` pictures go there: `clients/web/screenshots` has those that the README shows. Their model is small, with
random weights, so what they say of delays is no measurement.
"""

from __future__ import annotations

import os
from pathlib import Path

from browser_rig import fresh_page, needs_browser
from page_rig import codes_are_heard, heard_for, publishing, served
from server_rig import run, until

from streamcodec.server import Tokens

pytestmark = needs_browser

PICTURES = os.environ.get("STREAMCODEC_PICTURES")
DESKTOP, PHONE, NARROWEST = (1100, 900), (390, 844), (320, 640)

# Texts and their grounds as WCAG 2.2 has it, 1.4.3: what is less than 4.5 apart, but for controls that are switched off.
FAINT = """(() => {
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map((one) => (one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4))
        .reduce((sum, one, i) => sum + one * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (one) => {
        const [r, g, b, a = 1] = rgb(getComputedStyle(one).backgroundColor);
        return a > 0 || one.parentElement === null ? [r, g, b] : ground(one.parentElement);
    };
    const texts = [...document.body.querySelectorAll("*")].filter((one) => one.checkVisibility()
        && !one.matches(":disabled, canvas, option") && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== ""));
    return texts.flatMap((one) => {
        const [a, b] = [light(rgb(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        return contrast < 4.5 ? [`${one.textContent.trim().slice(0, 40)}: ${contrast.toFixed(1)}`] : [];
    });
})()"""
CUT_OFF = """[...document.querySelectorAll("section *, header *, #missing")].filter((one) => one.checkVisibility()
    && (one.getBoundingClientRect().right > innerWidth || one.getBoundingClientRect().left < 0)).map((one) => one.id || one.outerHTML)"""
TOO_SMALL = """[...document.querySelectorAll("button, select, input:not([type=range], [type=checkbox])")]
    .filter((one) => one.getBoundingClientRect().height < 44).map((one) => one.id)"""


async def looked_at(page, name, sizes, *, dark=False):
    """Look at the page at these sizes; keep a picture at the first."""
    for width, height in reversed(sizes):
        await page.do("look", width=width, height=height, dark=dark)
        for wrong in (CUT_OFF, FAINT, TOO_SMALL):
            assert await page.do("evaluate", js=wrong) == [], f"{name} at {width} pixels"
    if PICTURES:
        await page.do("picture", path=str(Path(PICTURES) / f"{name}.png"))


def test_talking_and_listening_look_right_on_a_desktop(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("look", width=DESKTOP[0], height=DESKTOP[1], dark=False)
            await page.do("click", on="#listen")
            await codes_are_heard(page)
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-status", has="You are heard")
            await heard_for(page, 30 if PICTURES else 1)
            await looked_at(page, "desktop", [DESKTOP])
            await page.do("click", on="#mute")
            await page.do("evaluate", js="document.querySelector('#listen-stream').focus()")
            await page.do("press", key="Tab")
            await looked_at(page, "desktop-dark", [DESKTOP], dark=True)
            await page.do("click", on="#listen")
            await page.do("click", on="#talk")
            await until(lambda: not server.registry.streams)

    run(main())


def test_listening_looks_right_on_a_phone(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, publishing(server, codec, bandwidth=6.0), fresh_page(chromium) as page:
            await page.do("look", width=PHONE[0], height=PHONE[1], dark=True)
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await codes_are_heard(page)
            await heard_for(page, 30 if PICTURES else 1)
            await looked_at(page, "phone-dark", [PHONE, NARROWEST], dark=True)
            await page.do("click", on="#listen")

    run(main())


def test_a_refusal_looks_right_on_a_phone(codec, model, chromium):
    async def main():
        tokens = Tokens(publish=("right",), listen=("right",))
        async with served(codec, model, tokens=tokens) as server, fresh_page(chromium) as page:
            await page.do("look", width=PHONE[0], height=PHONE[1], dark=False)
            await page.open(server.page_url)
            await page.do("fill", on="#token", text="wrong")
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-status", has="does not accept this token")
            await page.do("click", on="#listen")
            await page.do("untilText", on="#listen-status", has="does not accept this token")
            await looked_at(page, "phone-refused", [PHONE, NARROWEST])

    run(main())
