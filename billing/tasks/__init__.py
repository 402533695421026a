"""When billing's work runs: `money` (queue celery) and `settlement` (queue chain). Celery finds them through this package."""

from billing.tasks import money, settlement

__all__ = ["money", "settlement"]
