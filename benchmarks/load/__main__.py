"""`python -m benchmarks.load`."""

import sys

from benchmarks.harness.run import main
from benchmarks.load.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
