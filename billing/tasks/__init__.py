"""When billing's work runs: `money` (queue celery), `settlement` and `proofs` (queue chain). Celery finds them through this package."""

from billing.tasks import money, proofs, settlement

__all__ = ["money", "proofs", "settlement"]
