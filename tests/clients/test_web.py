"""`clients/web` passes the protocol's vectors and decides as the Python player does, and the page that ships is built from it."""

from __future__ import annotations

import shutil
import subprocess

from web_packages import WEB, needs_packages, vitest


@needs_packages
def test_the_packages_in_typescript_pass_their_own_tests():
    result = vitest()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "passed" in result.stdout


@needs_packages
def test_the_page_that_ships_is_what_the_build_makes(tmp_path):
    shipped, built = WEB.parents[1] / "streamcodec" / "server" / "page", tmp_path / "page"
    # What holds the same is not compressed again, which would take a minute.
    shutil.copytree(shipped, built)
    result = subprocess.run(["node", "build.mjs", str(built)], cwd=WEB, capture_output=True, text=True, timeout=1200, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    contents = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in (shipped, built)]
    assert contents[0].keys() == contents[1].keys(), "run `make page`, and commit what it makes"
    assert contents[0] == contents[1]
