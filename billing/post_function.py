"""`billing_post`: the ledger's `post()` as one PostgreSQL function, so that any number of postings is one round trip.

It takes each field of the postings as a JSON list, and their lines as arrays (a line's `posting` is its posting's place, counted
from 1), and returns the transactions' ids in the order of the postings. Steps, all or nothing:

1. Lock the accounts in id order; three seconds, then SQLSTATE 55P03.
2. Insert the transactions whose key is new.
3. Compare the lines of keys that were known with what is on record, and take their ids.
4. Insert the new transactions' entries with running balances. The table's trigger checks sums and balances, and moves the balances.

What it refuses carries an SQLSTATE of class IC (`billing/services/ledger_postgresql.py` knows them) and the key in DETAIL.
Plans are made once: planning anew for each array's length costs more than a single posting.
SQLite, which has no functions, does the same steps in `billing/services/ledger_sqlite.py`.
"""

from __future__ import annotations

from typing import Any

INSUFFICIENT, UNBALANCED, CONFLICT = "IC001", "IC002", "IC003"

CREATE = f"""
CREATE OR REPLACE FUNCTION billing_post(
  keys json, kinds json, moments json, memos json, causes json, reversed json,
  accounts bigint[], line_posting int[], line_account bigint[], line_amount bigint[], made_by bigint, made_at timestamptz
) RETURNS bigint[] LANGUAGE plpgsql SET lock_timeout = '3s' SET plan_cache_mode = 'force_generic_plan' AS $$
DECLARE
  asked int := json_array_length(keys);
  touched int;
  ids bigint[];
  known int[] := '{{}}';
  old record;
BEGIN
  PERFORM 1 FROM billing_account WHERE id = ANY (accounts) ORDER BY id FOR NO KEY UPDATE;
  GET DIAGNOSTICS touched = ROW_COUNT;
  IF touched <> cardinality(accounts) THEN
    RAISE EXCEPTION 'A posting names an account that does not exist.' USING ERRCODE = '{UNBALANCED}';
  END IF;

  ids := array(SELECT nextval('billing_transaction_id_seq') FROM generate_series(1, asked));
  INSERT INTO billing_transaction (id, key, kind, effective_at, memo, reference, reverses_id, created_at, by_id)
  SELECT ids[place], key, kind, moment::timestamptz, memo, cause, reverses::bigint, made_at, made_by
  FROM ROWS FROM (
    json_array_elements_text(keys), json_array_elements_text(kinds), json_array_elements_text(moments),
    json_array_elements_text(memos), json_array_elements_text(causes), json_array_elements_text(reversed)
  ) WITH ORDINALITY AS wanted (key, kind, moment, memo, cause, reverses, place)
  ON CONFLICT (key) DO NOTHING;
  GET DIAGNOSTICS touched = ROW_COUNT;

  IF touched < asked THEN
    FOR old IN
      SELECT wanted.place, made.id, made.key FROM json_array_elements_text(keys) WITH ORDINALITY AS wanted (key, place)
      JOIN billing_transaction AS made ON made.key = wanted.key AND made.id <> ids[wanted.place]
    LOOP
      IF EXISTS (
        SELECT FROM (
          SELECT account, amount, 1 AS side FROM unnest(line_posting, line_account, line_amount) AS line (posting, account, amount)
          WHERE line.posting = old.place
          UNION ALL
          SELECT account_id, amount, -1 FROM billing_entry WHERE transaction_id = old.id
        ) AS both_sides GROUP BY account, amount HAVING sum(side) <> 0
      ) THEN
        RAISE EXCEPTION 'A key was used before for other amounts.' USING ERRCODE = '{CONFLICT}', DETAIL = old.key;
      END IF;
      ids[old.place] := old.id;
      known := known || old.place::int;
    END LOOP;
  END IF;

  INSERT INTO billing_entry (transaction_id, account_id, amount, balance_after)
  SELECT ids[line.posting], line.account, line.amount,
    account.balance + sum(line.amount) OVER (PARTITION BY line.account ORDER BY line.number)
  FROM unnest(line_posting, line_account, line_amount) WITH ORDINALITY AS line (posting, account, amount, number)
  JOIN billing_account AS account ON account.id = line.account
  WHERE line.posting <> ALL (known) ORDER BY line.number;
  RETURN ids;
END $$
"""  # noqa: S608  (only the codes above are filled in)
DROP = "DROP FUNCTION billing_post"


def install(apps: Any, schema_editor: Any) -> None:
    """Create the function (a `RunPython` operation); nothing on SQLite."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(CREATE, params=None)


def remove(apps: Any, schema_editor: Any) -> None:
    """Drop the function (the reverse operation)."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(DROP, params=None)
