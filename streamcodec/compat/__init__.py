"""Other libraries' interfaces over this package's engine, a module for each: a program changes one import.

Nothing in the package imports this room, and this room imports none of those libraries.
"""
