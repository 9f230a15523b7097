"""What the README tells a new user: run the demo, open the address that it names, press Talk, then Listen, and hear oneself."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys

from browser_rig import fresh_page, needs_browser
from page_rig import codes_are_heard, heard_for
from server_rig import run

pytestmark = needs_browser

PROGRAM = "import sys; from streamcodec.cli import main; sys.exit(main())"
DEMO = [sys.executable, "-c", PROGRAM, "demo", "--clip", "--silent", "--seconds", "1"]


def said_until(terminal, pattern):
    """What a program has written to its terminal, up to a match of `pattern`; returns that."""
    said = ""
    while (found := re.search(pattern, said)) is None:
        said += os.read(terminal, 4096).decode(errors="replace")
    return found


def test_from_the_demo_to_sound_in_the_page(chromium, tmp_path):
    terminal, its = pty.openpty()
    demo = subprocess.Popen(DEMO, cwd=tmp_path, stdin=its, stdout=its, stderr=its)
    os.close(its)

    async def main():
        named = await asyncio.to_thread(said_until, terminal, r"in a browser: (http://\S+)\?stream=(\w+)\r?\n")
        found = await asyncio.to_thread(said_until, terminal, r"the page stays until Ctrl-C: (http://\S+) \(press Talk, then Listen\)")
        assert found[1] == named[1]
        async with fresh_page(chromium) as page:
            await page.open(found[1])
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-status", has="You are heard")
            await page.do("click", on="#listen")
            await codes_are_heard(page)
            await heard_for(page, 2)
            await page.do("until", js="document.querySelector('#listen-level').value > -40")
            await page.do("click", on="#listen")
            await page.do("click", on="#talk")
        demo.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(demo.wait, 600) == 0

    try:
        run(main())
    finally:
        demo.kill()
        demo.wait()
        os.close(terminal)
