"""Run the stand-in: `python -m billing.stripe.standin --port 8002 --webhook-url … --webhook-secret whsec_…`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import uvicorn

from billing.stripe.standin.app import make_app


def main() -> None:
    """Read the command line and serve until stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m billing.stripe.standin", description="A Stripe of our own for tests."
    )
    data = Path(os.environ.get("DATA_DIR", "var"))
    parser.add_argument("--port", type=int, default=8002)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--webhook-url", "--webhook", default="", help="where events are sent; empty: nowhere")
    parser.add_argument("--webhook-secret", "--secret", default=os.environ.get("STRIPE_WEBHOOK_SECRET", ""))
    parser.add_argument(
        "--state", type=Path, default=data / "stripe-standin.sqlite3", help="the file that remembers all"
    )
    parser.add_argument("--retry-seconds", type=float, default=1, help="first pause before an event is sent again")
    parser.add_argument("--dispute-after-seconds", type=float, default=5, help="delay of the disputing test cards")
    parser.add_argument("--payout-after-seconds", type=float, default=5, help="how long a payout takes to its bank")
    parser.add_argument(
        "--available-after-seconds",
        type=float,
        default=0,
        help="how long card money is pending before it can be sent on",
    )
    found = parser.parse_args()
    app = make_app(
        state=found.state,
        webhook_url=found.webhook_url,
        webhook_secret=found.webhook_secret,
        retry_seconds=found.retry_seconds,
        dispute_after_seconds=found.dispute_after_seconds,
        payout_after_seconds=found.payout_after_seconds,
        available_after_seconds=found.available_after_seconds,
    )
    uvicorn.run(app, host=found.host, port=found.port, log_level="warning")


if __name__ == "__main__":
    main()
