"""`python -m benchmarks.batches`."""

import sys

from benchmarks.batches.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
