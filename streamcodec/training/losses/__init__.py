"""What a model is told about its output: spectral distances, models of hearing, and a discriminator. Nothing here knows a model or a file.

Losses take reconstruction and original as [B, T] float32.
"""
