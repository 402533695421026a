"""What people type about money."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings

from billing import money

COUNTRY_NAMES = {"US": "United States", "CA": "Canada", "GB": "United Kingdom", "PR": "Puerto Rico"}


class BuyForm(forms.Form):
    """An amount of dollars to spend, or of NTC to buy."""

    UNITS = (("usd", "US dollars to spend"), ("ntc", "NTC to buy"))

    unit = forms.ChoiceField(choices=UNITS, label="I know the amount of", initial="usd", widget=forms.RadioSelect)
    amount = forms.DecimalField(
        label="Amount",
        min_value=Decimal("0.000000001"),
        max_digits=18,
        decimal_places=9,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )

    def clean(self) -> dict[str, Any]:
        """Refuse dollars with more than two decimals."""
        found = super().clean() or {}
        amount, unit = found.get("amount"), found.get("unit")
        if amount is not None and unit == "usd" and amount != amount.quantize(Decimal("0.01")):
            self.add_error("amount", "Dollars have two decimals at most.")
        return found

    def wanted(self) -> dict[str, int]:
        """Return the amount as `desk.quote` takes it: `{"cents": …}` or `{"units": …}`."""
        amount: Decimal = self.cleaned_data["amount"]
        if self.cleaned_data["unit"] == "usd":
            return {"cents": int(amount * money.CENTS)}
        return {"units": int(amount * money.NANO)}


class CashOutForm(BuyForm):
    """An amount of dollars to get, or of NTC to sell."""

    unit = forms.ChoiceField(
        choices=(("ntc", "NTC to sell"), ("usd", "US dollars to get")),
        label="I know the amount of",
        initial="ntc",
        widget=forms.RadioSelect,
    )


class BankForm(forms.Form):
    """In which country the bank is; Stripe asks for the rest."""

    country = forms.ChoiceField(label="Country of your bank", help_text="It cannot be changed later.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["country"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  (for the type checker)
        field.choices = [(code, COUNTRY_NAMES.get(code, code)) for code in settings.CASH_OUT_COUNTRIES]
