"""`python -m benchmarks.attacks`."""

import sys

from benchmarks.attacks.benchmark import BENCHMARK
from benchmarks.harness.run import main

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
