"""`python -m benchmarks.precision`."""

import sys

from benchmarks.harness.run import main
from benchmarks.precision.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
