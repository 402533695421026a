"""Published price lists cannot be changed or deleted, not even by SQL typed by hand."""

from django.db import migrations

_SQLITE_WHEN = {
    "price_list_frozen_update": "UPDATE ON marketplace_pricelist WHEN OLD.state = 'published'",
    "price_list_frozen_delete": "DELETE ON marketplace_pricelist WHEN OLD.state = 'published'",
    "price_frozen_insert": "INSERT ON marketplace_price WHEN EXISTS "
    "(SELECT 1 FROM marketplace_pricelist WHERE id = NEW.price_list_id AND state = 'published')",
    "price_frozen_update": "UPDATE ON marketplace_price WHEN EXISTS "
    "(SELECT 1 FROM marketplace_pricelist WHERE id IN (OLD.price_list_id, NEW.price_list_id) AND state = 'published')",
    "price_frozen_delete": "DELETE ON marketplace_price WHEN EXISTS "
    "(SELECT 1 FROM marketplace_pricelist WHERE id = OLD.price_list_id AND state = 'published')",
}
# sqlite3 takes one statement at a time.
_SQLITE = [
    f"CREATE TRIGGER {name} BEFORE {when} BEGIN SELECT RAISE(ABORT, 'a published price list is frozen'); END"
    for name, when in _SQLITE_WHEN.items()
]
_SQLITE_REVERSE = [f"DROP TRIGGER {name}" for name in _SQLITE_WHEN]
_POSTGRESQL = """
CREATE FUNCTION marketplace_refuse_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE frozen boolean;
BEGIN
    IF TG_TABLE_NAME = 'marketplace_pricelist' THEN
        frozen := OLD.state = 'published';
    ELSIF TG_OP = 'INSERT' THEN
        frozen := EXISTS (SELECT 1 FROM marketplace_pricelist WHERE id = NEW.price_list_id AND state = 'published');
    ELSIF TG_OP = 'UPDATE' THEN
        frozen := EXISTS (SELECT 1 FROM marketplace_pricelist
                          WHERE id IN (OLD.price_list_id, NEW.price_list_id) AND state = 'published');
    ELSE
        frozen := EXISTS (SELECT 1 FROM marketplace_pricelist WHERE id = OLD.price_list_id AND state = 'published');
    END IF;
    IF frozen THEN
        RAISE EXCEPTION 'a published price list is frozen' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER price_list_frozen BEFORE UPDATE OR DELETE ON marketplace_pricelist
    FOR EACH ROW EXECUTE FUNCTION marketplace_refuse_frozen();
CREATE TRIGGER price_frozen BEFORE INSERT OR UPDATE OR DELETE ON marketplace_price
    FOR EACH ROW EXECUTE FUNCTION marketplace_refuse_frozen();
"""
_POSTGRESQL_REVERSE = """
DROP TRIGGER price_frozen ON marketplace_price;
DROP TRIGGER price_list_frozen ON marketplace_pricelist;
DROP FUNCTION marketplace_refuse_frozen();
"""


def add_triggers(apps, schema_editor):
    _run(schema_editor, {"sqlite": _SQLITE, "postgresql": [_POSTGRESQL]})


def drop_triggers(apps, schema_editor):
    _run(schema_editor, {"sqlite": _SQLITE_REVERSE, "postgresql": [_POSTGRESQL_REVERSE]})


def _run(schema_editor, statements):
    with schema_editor.connection.cursor() as cursor:
        for statement in statements[schema_editor.connection.vendor]:
            cursor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0001_initial")]
    operations = [migrations.RunPython(add_triggers, drop_triggers)]
