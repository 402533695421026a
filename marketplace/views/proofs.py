"""Downloads for people who check: the proof of a bill line, and published price lists."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from billing.services import bill_proofs as billing_proofs
from billing.views.topups import person
from interchain_site.core.canonical import canonical_json
from marketplace import bill_proofs, price_documents
from marketplace.models import PriceList
from marketplace.states import PriceListState


@login_required
@require_GET
def bill_proof(request: HttpRequest, entry_id: int) -> HttpResponse:
    """The proof of one line of the reader's own statement, as a file."""
    proof = billing_proofs.of_line(entry_id=entry_id, by=person(request))
    return _file(bill_proofs.document(proof), name=f"interchain-bill-{entry_id}.json")


@require_GET
def price_list_document(request: HttpRequest, region: str, version: int) -> HttpResponse:
    """A published price list in the form statements name it by its hash; for anybody."""
    rows = PriceList.objects.filter(region=region, version=version, state=PriceListState.PUBLISHED)
    price_list = rows.prefetch_related("prices").first()
    if price_list is None:
        raise Http404
    document = price_documents.document(price_list, price_list.prices_by_meter())
    return _file(document, name=f"interchain-prices-{region}-{version}.json")


def _file(document: dict[str, Any], *, name: str) -> HttpResponse:
    response = HttpResponse(canonical_json(document), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
