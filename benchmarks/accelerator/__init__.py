"""What a device beside the processor does for the codec: parity with the CPU, steps of many streams, and live streams, in ten minutes.

It takes nothing but the checkout and its packages, so that it can be run where such a device is lent for a while.
"""
