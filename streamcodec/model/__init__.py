"""The model: streaming layers, SEANet, residual VQ, and checkpoints in every supported layout. A state is a value."""
