"""The program on an owner's device. Imports no Django: it runs where Django is not installed."""

__version__ = "0.1.0"
