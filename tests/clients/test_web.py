"""The packages in `clients/web`: they pass the protocol's vectors and decide as the Python player does, by their own tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from programs import needs

WEB = Path(__file__).resolve().parents[2] / "clients" / "web"
VITEST = WEB / "node_modules" / ".bin" / "vitest"

needs_packages = needs("node", without=None if VITEST.exists() else "the packages of clients/web (make page-setup)")


@needs_packages
def test_the_packages_in_typescript_pass_their_own_tests():
    result = subprocess.run([VITEST, "run"], cwd=WEB, capture_output=True, text=True, timeout=1200, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "passed" in result.stdout
