"""The program on an owner's device. Imports no Django: it runs where Django is not installed."""
