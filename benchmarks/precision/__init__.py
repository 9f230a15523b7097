"""What bf16 costs in sound: streams encoded and decoded in bf16 against fp32, on held-out speech at every bandwidth.

Scores are against what was spoken; what counts is the difference of two precisions' scores of the same clip. ViSQOL takes most of the
time: with `numba` installed it gives the same scores twelve times faster.
"""
