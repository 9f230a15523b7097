"""Join the sections that the benchmarks wrote into RESULTS.md.

To reproduce the figures, from the repository's root and with the `dev` extra installed (`pip install -e '.[dev]'`):

    python -m benchmarks.seams    # what the naive way costs in sound, ours beside it: half a minute
    python -m benchmarks.step     # one step's time beside the peers' and the machine's own peak: five minutes, on an idle machine
    python -m benchmarks.load     # 20 publishers and 60 listeners for a minute, everything checked: five minutes
    python -m benchmarks.heldout corpus    # the speech that the next three are measured on: Debian packages, some 230 MB
    python -m benchmarks.precision         # what bf16 costs in sound: ten minutes with `numba` installed, more without
    python -m benchmarks.quality           # how the model sounds, beside Opus: fifteen minutes, likewise
    python -m benchmarks.long_streams --clips 24    # the same voices later in a stream: two minutes, likewise
    python -m benchmarks.capacity # how many live publishers the machine holds: seven minutes a case, which stand at its top
    python -m benchmarks.churn    # streams that come and go, everything checked and memory watched: eleven minutes for each --engine
    python -m benchmarks.latency --all     # every packet's way, on good and bad networks, cases one by one: forty-five minutes; --help
    python -m benchmarks.late_join         # what a listener who joins late hears: a minute
    python -m benchmarks.dtx --corpus corpus    # what thinning silence saves and does to the sound: three minutes
    python -m benchmarks.mouth_to_ear      # through virtual sound cards, with each stage's share: a minute and a half
    python -m benchmarks.report   # benchmarks/RESULTS.md from the sections that are there; --run measures seams, step and load first

`step` times Mimi too where its package is: `pip install --no-deps moshi==0.2.13 sentencepiece`, as its pins and ours do not go together.
Each takes `--help`. A benchmark writes `results/NAME.json` (all figures, the machine, the versions, the command), `results/NAME.md` (the
section, made from the JSON alone) and `results/NAME.png`. Times of two machines, or of two runs, do not compare; the ratios inside one
run do, since its candidates take turns.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

__all__ = ["join"]

_ROOT = Path(__file__).parents[1]
_RUN = ("seams", "step", "load")
_ORDER = (*_RUN, "capacity", "churn", "quality", "long_streams", "precision", "latency", "late_join", "dtx", "mouth_to_ear")

_HEAD = """# Results

Written by `python -m benchmarks.report` from the files in `results/`, which the benchmarks wrote: no figure here was typed. How to repeat
them stands at the top of [report.py](report.py).

Where the small print under a section names no fingerprint of `speech-24k`, it was measured on earlier weights of it, whose encoder followed
one path through the codebooks instead of four and so took less time.
"""


def join(results: Path) -> str:
    """RESULTS.md from the sections in `results`: those with a known place first, then the others by name."""
    names = [path.stem for path in sorted(results.glob("*.md"))]
    names.sort(key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    sections = [(results / f"{name}.md").read_text(encoding="utf-8") for name in names]
    # A section's pictures lie beside it, one folder below the report.
    return "\n".join([_HEAD, *(re.sub(r"(!\[[^\]]*\]\()", rf"\1{results.name}/", section) for section in sections)])


def main() -> int:
    """Write RESULTS.md; 1 if a benchmark that was asked for failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", action="store_true", help=f"run {', '.join(_RUN)} first")
    args = parser.parse_args()
    failed = 0
    for name in _RUN if args.run else ():
        print(f"running {name}", file=sys.stderr)
        failed += (
            subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=_ROOT, stdout=subprocess.DEVNULL, check=False).returncode != 0
        )
    path = _ROOT / "benchmarks" / "RESULTS.md"
    path.write_text(join(path.with_name("results")), encoding="utf-8")
    print(path.relative_to(_ROOT))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
