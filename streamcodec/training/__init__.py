"""How the embedded model was made, and how to make another: packages -> corpus -> stages of a recipe -> checkpoint -> model.

This room imports the model and is imported by nobody but the command line; nothing here runs where a codec is served.
"""
