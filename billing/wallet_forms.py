"""What people type about their wallets, deposits and withdrawals."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from billing import money
from billing.models import Wallet

PLAIN = {"autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}
SMALLEST = Decimal("0.000000001")


def amount_field(label: str, help_text: str = "", *, required: bool = True) -> forms.DecimalField:
    """Return a field for an amount of NTC, to nine decimals."""
    return forms.DecimalField(
        label=label,
        help_text=help_text,
        required=required,
        min_value=SMALLEST,
        max_digits=17,
        decimal_places=9,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )


class AddressForm(forms.Form):
    address = forms.CharField(
        label="Ethereum address",
        max_length=60,
        help_text="Copy it whole from your wallet: 0x and 40 digits.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    confirmed = forms.BooleanField(required=False, widget=forms.HiddenInput)  # sent by the second page only


class SignatureForm(forms.Form):
    message = forms.CharField(widget=forms.HiddenInput, strip=False)
    signature = forms.CharField(
        label="Signature",
        max_length=20_000,  # a contract's wallet with many owners signs at length
        help_text="Sign the text above with your wallet (personal_sign) and paste the result.",
        widget=forms.TextInput(attrs=PLAIN),
    )


class ThresholdForm(forms.Form):
    threshold = amount_field("Send by itself from (NTC)", "Empty: only when you ask.", required=False)

    def units(self) -> int | None:
        """Return base units, or None for never."""
        amount: Decimal | None = self.cleaned_data["threshold"]
        return None if amount is None else int(amount * money.NANO)


class DepositForm(forms.Form):
    amount = amount_field("Amount in NTC")
    approve = forms.BooleanField(
        label="My wallet cannot sign permits: approve first, in a transaction of its own",
        required=False,
    )

    def units(self) -> int:
        """Return base units."""
        return int(self.cleaned_data["amount"] * money.NANO)


class WithdrawForm(forms.Form):
    """An amount, and one of one's addresses or a new one."""

    amount = amount_field("Amount in NTC")
    address = forms.CharField(
        label="Or another address",
        max_length=60,
        required=False,
        help_text="0x and 40 digits, of a wallet of your own. Not an exchange’s deposit address.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    confirmed = forms.BooleanField(required=False, widget=forms.HiddenInput)  # sent by the second page only

    def __init__(self, *args: Any, wallets: list[Wallet], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = [(wallet.pk, wallet.address) for wallet in wallets]
        choices = [*known, (0, "Another address")]
        self.fields["wallet"] = forms.TypedChoiceField(label="To", coerce=int, choices=choices, initial=choices[0][0])
        if not known:
            self.fields["wallet"].widget = forms.HiddenInput()
            self.fields["address"].label = "To the address"
        self.order_fields(["amount", "wallet", "address"])

    def clean(self) -> dict[str, Any]:
        """Ask for exactly one address."""
        found = super().clean() or {}
        if not found.get("wallet") and not found.get("address"):
            self.add_error("address", "Choose one of your addresses, or enter another one.")
        if found.get("wallet") and found.get("address"):
            self.add_error("address", "Choose one of your addresses or enter another one, not both.")
        return found

    def units(self) -> int:
        """Return base units."""
        return int(self.cleaned_data["amount"] * money.NANO)


class CodeForm(forms.Form):
    code = forms.CharField(
        label="Code",
        max_length=20,
        widget=forms.TextInput(attrs={**PLAIN, "inputmode": "numeric", "autocomplete": "one-time-code"}),
    )
