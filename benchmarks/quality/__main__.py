"""`python -m benchmarks.quality`."""

import sys

from benchmarks.harness.run import main
from benchmarks.quality.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
