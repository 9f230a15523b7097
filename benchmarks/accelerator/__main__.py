"""`python -m benchmarks.accelerator`."""

import sys

from benchmarks.accelerator.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
