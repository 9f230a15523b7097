"""Late to a stream: how far a listener who joined in the middle is from one who was there all along, by the history it was given.

The decoder opens as a late listener's does, takes the packets of the history without playing them, and then plays. In process, on real
codes; no network and no clock.
"""
