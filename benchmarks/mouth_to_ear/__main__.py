"""`python -m benchmarks.mouth_to_ear`."""

import sys

from benchmarks.harness.run import main
from benchmarks.mouth_to_ear.benchmark import BENCHMARK

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
