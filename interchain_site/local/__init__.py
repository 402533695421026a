"""What runs Interchain on one machine: the doors in `bin/`, set-up steps, process manager, demo data, smoke test."""
