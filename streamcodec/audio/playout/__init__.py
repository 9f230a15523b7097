"""Playout: decides when decoded audio is played, with a jitter estimator, a buffer and a controller for clock drift."""
