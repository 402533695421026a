"""What the frame around every page shows of the signed-in person: the balance, read only when it is shown."""

from __future__ import annotations

from django.http import HttpRequest

from billing.money import NANO


def navigation(request: HttpRequest) -> dict[str, object]:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {"balance_text": _Balance(user.pk)}


class _Balance:
    """The spendable balance with two decimals, cut and never rounded up."""

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id

    def __str__(self) -> str:
        from billing import queries  # models are not loaded yet when settings name this module

        whole, part = divmod(queries.available_units(self.user_id), NANO)
        return f"{whole:,}.{part * 100 // NANO:02d} NTC"
