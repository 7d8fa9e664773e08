"""The command line: train a model, let it write, try it all in two minutes."""

from rnncore.cli.main import main

__all__ = ["main"]
