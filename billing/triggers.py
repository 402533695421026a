"""The ledger's rules as the database holds them, for PostgreSQL and SQLite. Installed by a migration.

Both refuse UPDATE and DELETE on transactions, entries and desk rates, and keep `Account.balance` themselves: inserting
entries moves the balance, nothing else may. Entries that do not sum to zero per currency are refused:

- PostgreSQL checks each INSERT as a whole, with a statement trigger over its new rows: all entries of a transaction
  are written by one statement and none can be added later. (A deferred constraint trigger fires once per row; this is
  stricter and some ten times cheaper, which `bench/ledger` needs.)
- SQLite has no statement triggers, but deferred foreign keys. Each entry adds to a row of `billing_unbalanced`, removed when it
  reaches zero; a row left at COMMIT points to the always empty `billing_nothing`, and the commit fails.

A later migration that makes Django rebuild one of these tables on SQLite drops its triggers: call `install` again there.
"""

from __future__ import annotations

from typing import Any

APPEND_ONLY = ("billing_transaction", "billing_entry", "billing_deskrate")

POSTGRESQL = [
    # A balance changes all the time and stands in no index: with room on the page, PostgreSQL rewrites it in place.
    "ALTER TABLE billing_account SET (fillfactor = 50)",
    """
    CREATE OR REPLACE FUNCTION billing_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION '% is append-only: % refused. Correct it with a reversing transaction.', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE OR REPLACE FUNCTION billing_refuse_balance() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION 'Only ledger entries move a balance (account %).', NEW.id USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE OR REPLACE FUNCTION billing_apply_entries() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
      short record;
    BEGIN
      SELECT billing_transaction.key, fresh.account_id INTO short FROM fresh
      JOIN billing_account ON billing_account.id = fresh.account_id AND NOT billing_account.may_be_negative
      JOIN billing_transaction ON billing_transaction.id = fresh.transaction_id
      WHERE fresh.balance_after < 0 ORDER BY fresh.id LIMIT 1;
      IF FOUND THEN
        RAISE EXCEPTION 'Account % may not be negative.', short.account_id
          USING ERRCODE = 'IC001', DETAIL = short.account_id || ' ' || short.key;
      END IF;
      IF EXISTS (
        SELECT 1 FROM fresh JOIN billing_account ON billing_account.id = fresh.account_id
        GROUP BY fresh.transaction_id, billing_account.currency HAVING sum(fresh.amount) <> 0
      ) THEN
        RAISE EXCEPTION 'The entries of a transaction must sum to zero in each currency.' USING ERRCODE = 'IC002';
      END IF;
      IF EXISTS (
        SELECT 1 FROM (SELECT transaction_id, min(id) AS first FROM fresh GROUP BY transaction_id) AS written
        JOIN billing_entry ON billing_entry.transaction_id = written.transaction_id AND billing_entry.id < written.first
      ) THEN
        RAISE EXCEPTION 'A transaction is written once: no entry can be added to it later.'
          USING ERRCODE = 'restrict_violation';
      END IF;
      UPDATE billing_account SET balance = balance + moved.amount
      FROM (SELECT account_id, sum(amount)::bigint AS amount FROM fresh GROUP BY account_id) AS moved
      WHERE billing_account.id = moved.account_id;
      RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER billing_apply_entries AFTER INSERT ON billing_entry
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION billing_apply_entries()
    """,
    """
    CREATE TRIGGER billing_account_starts_empty BEFORE INSERT ON billing_account
    FOR EACH ROW WHEN (NEW.balance <> 0) EXECUTE FUNCTION billing_refuse_balance()
    """,
    """
    CREATE TRIGGER billing_account_balance BEFORE UPDATE ON billing_account
    FOR EACH ROW WHEN (NEW.balance <> OLD.balance AND pg_trigger_depth() = 0)
    EXECUTE FUNCTION billing_refuse_balance()
    """,
    *(
        f"""
        CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change()
        """
        for table in APPEND_ONLY
    ),
]

SQLITE = [
    "CREATE TABLE billing_nothing (id INTEGER PRIMARY KEY)",
    """
    CREATE TABLE billing_unbalanced (
      transaction_id INTEGER NOT NULL, currency TEXT NOT NULL, amount INTEGER NOT NULL,
      proof INTEGER NOT NULL DEFAULT 1 REFERENCES billing_nothing (id) DEFERRABLE INITIALLY DEFERRED,
      PRIMARY KEY (transaction_id, currency)
    ) WITHOUT ROWID
    """,
    """
    CREATE TRIGGER billing_apply_entry AFTER INSERT ON billing_entry BEGIN
      UPDATE billing_account SET balance = balance + NEW.amount WHERE id = NEW.account_id;
      INSERT INTO billing_unbalanced (transaction_id, currency, amount)
        SELECT NEW.transaction_id, currency, NEW.amount FROM billing_account WHERE id = NEW.account_id
        ON CONFLICT (transaction_id, currency) DO UPDATE SET amount = amount + excluded.amount;
      DELETE FROM billing_unbalanced WHERE transaction_id = NEW.transaction_id AND amount = 0;
    END
    """,
    """
    CREATE TRIGGER billing_account_starts_empty BEFORE INSERT ON billing_account WHEN NEW.balance <> 0 BEGIN
      SELECT RAISE(ABORT, 'Only ledger entries move a balance.');
    END
    """,
    """
    CREATE TRIGGER billing_account_balance BEFORE UPDATE ON billing_account
    WHEN NEW.balance <> OLD.balance AND NEW.balance IS NOT (
      SELECT balance_after FROM billing_entry WHERE account_id = NEW.id ORDER BY id DESC LIMIT 1
    ) BEGIN
      SELECT RAISE(ABORT, 'Only ledger entries move a balance.');
    END
    """,
    *(
        f"""
        CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} BEGIN
          SELECT RAISE(ABORT, '{table} is append-only: {verb} refused. Correct it with a reversing transaction.');
        END
        """
        for table in APPEND_ONLY
        for verb in ("UPDATE", "DELETE")
    ),
]

REMOVE_POSTGRESQL = [
    # A balance changes all the time and stands in no index: with room on the page, PostgreSQL rewrites it in place.
    "ALTER TABLE billing_account SET (fillfactor = 50)",
    "DROP FUNCTION billing_apply_entries() CASCADE",
    "DROP FUNCTION billing_refuse_balance() CASCADE",
    "DROP FUNCTION billing_refuse_change() CASCADE",
]
REMOVE_SQLITE = [
    "DROP TRIGGER billing_apply_entry",
    "DROP TRIGGER billing_account_starts_empty",
    "DROP TRIGGER billing_account_balance",
    *(f"DROP TRIGGER {table}_no_{verb}" for table in APPEND_ONLY for verb in ("update", "delete")),
    "DROP TABLE billing_unbalanced",
    "DROP TABLE billing_nothing",
]


def install(apps: Any, schema_editor: Any) -> None:
    """Create the triggers (a `RunPython` operation)."""
    _run(schema_editor, POSTGRESQL, SQLITE)


def remove(apps: Any, schema_editor: Any) -> None:
    """Drop the triggers (the reverse operation)."""
    _run(schema_editor, REMOVE_POSTGRESQL, REMOVE_SQLITE)


def _run(schema_editor: Any, postgresql: list[str], sqlite: list[str]) -> None:
    statements = {"postgresql": postgresql, "sqlite": sqlite}[schema_editor.connection.vendor]
    for statement in statements:
        schema_editor.execute(statement, params=None)
