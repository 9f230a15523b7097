"""`python -m benchmarks.parity`."""

import sys

from benchmarks.harness.run import main
from benchmarks.parity.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
