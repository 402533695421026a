"""Django's SQLite, without what costs a second statement for each (base.py). Named in settings.py as the engine."""
