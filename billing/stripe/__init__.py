"""Everything about Stripe: `gateway` (the only import of its SDK), `webhooks`, and `standin`, a Stripe of our own for tests."""
