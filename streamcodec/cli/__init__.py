"""The command line: one file for each command with its options. Every command imports its work when it runs, so that help is quick."""

from streamcodec.cli.app import main

__all__ = ["main"]
