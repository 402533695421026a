"""When billing's work runs: `money` and `wallets` (queue celery), `settlement` and `proofs` (queue chain). Celery finds them through this package."""

from billing.tasks import money, proofs, settlement, wallets

__all__ = ["money", "proofs", "settlement", "wallets"]
