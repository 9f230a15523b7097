"""The fast engine for CPUs: OpenVINO runs the model's steps, which are converted in memory from the torch module."""
