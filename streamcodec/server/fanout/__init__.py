"""A stream on its way to its subscribers."""
