"""What people type about the token sale: amounts from a wallet, where they live, and what staff order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from billing import money
from billing.models import SaleAsset, SaleRules
from billing.services import sale_gates
from interchain_site.core.errors import DomainError

PORTAL, WALLET = "portal", "wallet"
PERMIT, APPROVE = "permit", "approve"


class WalletBuyForm(forms.Form):
    """How many NTC to buy from a wallet, in what, for where, and how far the ether price may move meanwhile."""

    ntc = forms.DecimalField(
        label="NTC to buy",
        min_value=Decimal("0.000000001"),
        max_digits=18,
        decimal_places=9,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    asset = forms.ChoiceField(
        label="Pay with",
        choices=[(SaleAsset.STABLECOIN, "Stablecoin"), (SaleAsset.ETHER, "Ether (ETH)")],
        initial=SaleAsset.STABLECOIN,
        widget=forms.RadioSelect,
    )
    destination = forms.ChoiceField(
        label="Deliver to",
        choices=[(PORTAL, "My Interchain balance, to spend on apps"), (WALLET, "My wallet")],
        initial=PORTAL,
        widget=forms.RadioSelect,
    )
    method = forms.ChoiceField(
        label="Allow the stablecoin by",
        choices=[(PERMIT, "A signature (permit): one transaction"), (APPROVE, "An approval: two transactions")],
        initial=PERMIT,
        help_text="For stablecoin only. Choose the approval if your wallet or token cannot sign permits.",
    )
    slippage = forms.DecimalField(
        label="Most the ether price may move, in percent",
        min_value=Decimal(0),
        max_value=Decimal(20),
        decimal_places=2,
        initial=Decimal(1),
        help_text="For ether only. If the price moves further before your transaction is mined, nothing is bought.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )

    def units(self) -> int:
        """Return the amount in base units."""
        return int(self.cleaned_data["ntc"] * money.NANO)

    def slippage_basis_points(self) -> int:
        """Return the limit in hundredths of a percent."""
        return int(self.cleaned_data["slippage"] * 100)


class DeclarationForm(forms.Form):
    """Country and terms, whichever the rules ask for."""

    country = forms.ChoiceField(label="Country you live in")
    terms = forms.BooleanField(label="I have read and accept these terms")
    terms_id = forms.IntegerField(widget=forms.HiddenInput)

    def __init__(self, *args: object, asked: set[str], terms_id: int | None, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        country = self.fields["country"]
        assert isinstance(country, forms.ChoiceField)  # noqa: S101  (for the type checker)
        country.choices = [("", "Choose"), *((code, name) for code, name in sale_gates.countries().items())]
        if "country" not in asked:
            del self.fields["country"]
        if "terms" not in asked:
            del self.fields["terms"], self.fields["terms_id"]
        else:
            self.fields["terms_id"].initial = terms_id


class OpenRoundForm(forms.Form):
    price = forms.DecimalField(
        label="Price, USD for one NTC",
        max_digits=15,
        decimal_places=money.RATE_DECIMALS,
        min_value=Decimal("0.000000001"),
    )


class CloseRoundForm(forms.Form):
    pass


class UnsoldForm(forms.Form):
    decision = forms.ChoiceField(
        label="What becomes of what was not sold",
        choices=[("carry", "Sell it in the next round as well"), ("lock", "Lock it in the sale contract for good")],
        widget=forms.RadioSelect,
    )
    reason = forms.CharField(
        max_length=300, widget=forms.Textarea(attrs={"rows": 3}), help_text="Everybody can read it on the chain."
    )


class RulesForm(forms.ModelForm):  # type: ignore[type-arg]
    """The rules as staff switch them; the quota is typed in NTC."""

    quota = forms.DecimalField(
        label="Quota per person and round, NTC",
        required=False,
        min_value=Decimal("0.000000001"),
        max_digits=18,
        decimal_places=9,
        help_text="Empty: no quota. The contract itself knows none: who calls it past the portal is not held by it.",
    )

    class Meta:
        model = SaleRules
        fields = ("terms_required", "country_required", "refused_countries", "paused")

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        units = self.instance.quota_units
        if units:
            self.fields["quota"].initial = Decimal(money.plain_ntc(units)).normalize()

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        quota = found.get("quota")
        try:
            sale_gates.check_rules(
                quota_units=int(quota * money.NANO) if quota else None,
                terms_required=bool(found.get("terms_required")),
                refused=found.get("refused_countries", ""),
            )
        except DomainError as error:
            for name, text in error.fields.items():
                self.add_error(name, text)
        return found

    def wanted(self) -> dict[str, Any]:
        """Return the rules as `sale_gates.set_rules` takes them."""
        quota = self.cleaned_data.get("quota")
        return {
            "quota_units": int(quota * money.NANO) if quota else None,
            "terms_required": self.cleaned_data["terms_required"],
            "country_required": self.cleaned_data["country_required"],
            "refused": self.cleaned_data["refused_countries"],
            "paused": self.cleaned_data["paused"],
        }
