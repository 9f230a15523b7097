"""`python -m benchmarks.soak`."""

import sys

from benchmarks.harness.run import main
from benchmarks.soak.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
