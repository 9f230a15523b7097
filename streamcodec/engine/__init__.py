"""Engines: they run the steps of a model."""
