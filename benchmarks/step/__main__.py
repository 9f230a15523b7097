"""`python -m benchmarks.step`."""

import sys

from benchmarks.harness.run import main
from benchmarks.step.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
