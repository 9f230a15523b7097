"""What a recipe is made of: each stage takes a model (or none) and leaves one.

Stages that learn by steps can be stopped and gone on with.
"""
