"""Under /api/node/snapshots/: what restic calls."""

from django.urls import path

from nodes.snapshots.rest import RepositoryView

repository = RepositoryView.as_view()
urlpatterns = [
    path("<uuid:workload_id>/", repository, {"kind": ""}),
    path("<uuid:workload_id>/<slug:kind>", repository),
    path("<uuid:workload_id>/<slug:kind>/", repository),
    path("<uuid:workload_id>/<slug:kind>/<slug:name>", repository),
]
