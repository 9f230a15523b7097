"""`python -m benchmarks.failures`."""

import sys

from benchmarks.failures.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
