"""`python -m benchmarks.chunks`."""

import sys

from benchmarks.chunks.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
