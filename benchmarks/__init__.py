"""What is measured, and the report it writes: run `python -m benchmarks.NAME` from the repository's root, as `benchmarks.report` says."""
