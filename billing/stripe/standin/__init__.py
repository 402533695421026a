"""A Stripe of our own over HTTP, for the embedded default and the tests: `python -m billing.stripe.standin --help`.

It answers the REST calls the official SDK makes for Checkout, refunds and disputes (form-encoded, idempotency keys, Stripe's
error shape), shows a payment page where a person types a test card, signs its webhooks and repeats them until they are answered, and
keeps everything in one SQLite file. It moves no money, accepts only test keys, and knows nothing of Interchain or Django's settings.
"""
