"""Reaches an app on Interchain by its name, through any node that serves the directory."""

__version__ = "0.1.0"
