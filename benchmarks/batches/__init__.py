"""A batch of clips of different lengths: `transformers`' EnCodec and `streamcodec.compat.transformers` by turns, with the same weights."""
