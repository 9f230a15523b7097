"""`python -m benchmarks.tokenize`."""

import sys

from benchmarks.harness.run import main
from benchmarks.tokenize.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
