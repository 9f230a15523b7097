"""How a model sounds: held-out speech at every bandwidth beside Opus and beside the recording itself, and how its codebooks are used.

ViSQOL takes most of the time: with `numba` installed it gives the same scores twelve times faster.
"""
