"""Entropy coding: what a language model of whole numbers saves of files and of messages, what it costs, and that engines agree.

The model is one that `streamcodec train language-model` made. EnCodec's own model runs beside it with random weights: what it would save
needs its checkpoint, what it costs does not.
"""
