"""Snapshots of volumes: a restic repository per workload, served by the portal over restic's own REST protocol.

A device may read and add, never remove: one that is stolen, or lies, cannot take yesterday's data away. Only the portal's
worker removes what is past its time. restic encrypts, deduplicates and verifies; the portal only ever holds ciphertext.
"""
