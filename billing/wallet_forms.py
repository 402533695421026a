"""What people type about their wallet."""

from __future__ import annotations

from django import forms


class AddressForm(forms.Form):
    address = forms.CharField(
        label="Ethereum address",
        max_length=60,
        help_text="Copy it whole from your wallet: 0x and 40 digits.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}),
    )
    confirmed = forms.BooleanField(required=False, widget=forms.HiddenInput)  # sent by the second page only


class SignatureForm(forms.Form):
    message = forms.CharField(widget=forms.HiddenInput, strip=False)
    signature = forms.CharField(
        label="Signature",
        max_length=200,
        help_text="Sign the text above with your wallet (personal_sign) and paste the result.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "autocapitalize": "off"}),
    )
