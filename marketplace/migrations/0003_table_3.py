"""Load Table 3 as the United States list, in force from launch."""

from django.db import migrations
from django.utils import timezone

from marketplace import price_table


def load(apps, schema_editor):
    price_list_model, price_model = apps.get_model("marketplace", "PriceList"), apps.get_model("marketplace", "Price")
    price_list = price_list_model.objects.create(
        region=price_table.REGION, name=price_table.NAME, version=1, notice_days=price_table.NOTICE_DAYS
    )
    price_model.objects.bulk_create(
        price_model(price_list=price_list, meter=meter.value, usd=usd) for meter, usd in price_table.TABLE_3.items()
    )
    price_list.state, price_list.effective_at = "published", price_table.EFFECTIVE_AT
    price_list.published_at = timezone.now()
    price_list.save()


class Migration(migrations.Migration):
    dependencies = [("marketplace", "0002_frozen_price_lists")]
    operations = [migrations.RunPython(load, migrations.RunPython.noop)]
