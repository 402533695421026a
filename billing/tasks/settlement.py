"""Periodic work of settlement; its queue is `chain`, so that one worker alone speaks to Ethereum."""
