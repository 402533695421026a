"""What the publisher's API views share."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.views import APIView

from interchain_site.core.models import User
from marketplace import queries
from marketplace.api import serializers
from marketplace.models import App

REFUSALS = {
    400: serializers.ErrorOut,
    401: serializers.ErrorOut,
    402: serializers.ErrorOut,
    403: serializers.ErrorOut,
    404: serializers.ErrorOut,
    409: serializers.ErrorOut,
    503: serializers.ErrorOut,
}


def person(request: Request) -> User:
    """Return whose token or session it is."""
    assert isinstance(request.user, User)  # noqa: S101  (the API is for signed-in people only)
    return request.user


class AppView(APIView):
    """A view about one app, named in its address."""

    def app(self, request: Request, slug: str) -> App:
        """Return the app.

        Raises:
            NotYours: there is none that the caller may see.
        """
        return queries.app_for(person(request), slug)
