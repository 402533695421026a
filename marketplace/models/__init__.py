"""Stored things of this app."""
