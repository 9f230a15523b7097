"""The model: layers whose state is a value, SEANet, residual VQ, and checkpoints in every known layout."""
