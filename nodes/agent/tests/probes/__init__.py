"""Escapes and abuses, tried from inside real containers as the agent starts them. The table is docs/sandbox.md."""
