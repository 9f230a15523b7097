"""How a stream sounds when it has run for a while: the same held-out clips at its beginning, and after so many seconds of the same voice.

A model that was trained on short crops can be good for as long as these were, and worse from then on; short clips do not tell.
"""
