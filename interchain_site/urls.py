"""The product's table of contents."""

from django.contrib import admin
from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView

from interchain_site import pages
from interchain_site.core import views
from interchain_site.core.api import not_found

urlpatterns = [
    path("", pages.landing, name="landing"),
    path("balance/chip/", pages.balance_chip, name="balance_chip"),
    path("", include("interchain_site.core.urls")),
    path("", include("marketplace.urls")),
    path("", include("billing.urls")),
    path("", include("nodes.urls")),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/", include("marketplace.api.urls")),
    path("api/v1/", include("billing.api.urls")),
    path("api/v1/", include("nodes.api.people_urls")),
    path("api/node/v1/", include("nodes.api.urls")),
    path("api/node/snapshots/", include("nodes.snapshots.urls")),
    re_path("^api/", not_found, name="api_not_found"),
    path("metrics/metrics", views.metrics, name="metrics"),
]
