"""Django's SQLite engine that keeps no record of statements unless somebody asks for one.

With DEBUG on, Django remembers every statement with its parameters filled in, and has SQLite fill them in by a second
statement: a request on the embedded site took a third longer for a record that nobody reads. Tests that count statements
ask for the record by `force_debug_cursor`, as Django's own helpers do.
"""

from __future__ import annotations

from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    @property
    def queries_logged(self) -> bool:
        return bool(self.force_debug_cursor)
