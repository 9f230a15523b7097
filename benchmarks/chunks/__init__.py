"""Stereo music through server and listener by a model that codes chunks: its delay, and parity with the whole clip.

python -m benchmarks.chunks
"""
