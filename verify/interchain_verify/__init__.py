"""Check an Interchain proof file without trusting Interchain. Python 3.9 or newer, nothing else."""

__version__ = "1.0.0"
