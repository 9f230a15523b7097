"""What cutting a stream into lone packets costs in sound: the naive way against our streams, on real speech.

The naive way encodes and decodes every 80 ms on its own, so each packet starts from nothing. The yardstick is the whole clip, encoded and
decoded in one go; a stream should not be told from it.
"""
