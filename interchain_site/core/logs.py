"""What is left out of the logs."""

from __future__ import annotations

import logging
from pathlib import Path


class WithoutLinks(logging.Filter):
    """Leaves out that a WebSocket was opened or closed; what went wrong with one stays."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or "websockets" not in Path(record.pathname).parts
