"""Streams join and leave a worker at random for minutes, and each gets what it would get alone; memory stays flat, nothing is left behind.

Encoders and decoders of all bandwidths and packet sizes, in real time, with flushes, abrupt ends and fresh starts. A second process encodes
and decodes the same input in one call each. Ends with an error where a code or a sample is not the same, or something remains.
"""
