"""What every app may use and no product rule lives in: accounts, errors, audit, secrets, canonical JSON, Redis."""
