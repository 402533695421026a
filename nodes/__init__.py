"""Devices and what runs on them. Knows no app names, prices or money."""
