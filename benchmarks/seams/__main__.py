"""`python -m benchmarks.seams`."""

import sys

from benchmarks.harness.run import main
from benchmarks.seams.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
