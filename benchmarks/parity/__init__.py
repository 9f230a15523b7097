"""Whole clips and padded batches by each published architecture, beside each package that has it: codes, scales and audio."""
