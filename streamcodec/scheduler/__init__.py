"""Scheduling of the streams' steps: rows, batches and the threads that run the model."""
