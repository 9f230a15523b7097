"""Which stream's step runs when: rows, batches and the threads that own the model."""
