from django.urls import path

from marketplace.api import apps, deployments, domains, snapshots

urlpatterns = [
    path("apps", apps.AppsView.as_view(), name="api_apps"),
    path("apps/<slug:slug>", apps.OneAppView.as_view(), name="api_app"),
    path("apps/<slug:slug>/releases", apps.ReleasesView.as_view(), name="api_releases"),
    path("apps/<slug:slug>/releases/<int:number>", apps.ReleaseView.as_view(), name="api_release"),
    path("apps/<slug:slug>/domains", domains.DomainsView.as_view(), name="api_domains"),
    path("apps/<slug:slug>/domains/<str:host>", domains.DomainView.as_view(), name="api_domain"),
    path("apps/<slug:slug>/estimate", deployments.EstimateView.as_view(), name="api_estimate"),
    path("apps/<slug:slug>/deployment", deployments.DeploymentView.as_view(), name="api_deployment"),
    path("apps/<slug:slug>/deployment/start", deployments.StartView.as_view(), name="api_start"),
    path("apps/<slug:slug>/deployment/stop", deployments.StopView.as_view(), name="api_stop"),
    path("apps/<slug:slug>/deployment/rollback", deployments.RollBackView.as_view(), name="api_rollback"),
    path("apps/<slug:slug>/deployment/redeploy", deployments.RedeployView.as_view(), name="api_redeploy"),
    path("apps/<slug:slug>/deployment/scale", deployments.ScaleView.as_view(), name="api_scale"),
    path("apps/<slug:slug>/snapshots", snapshots.SnapshotsView.as_view(), name="api_snapshots"),
    path("apps/<slug:slug>/snapshots/key", snapshots.SnapshotKeyView.as_view(), name="api_snapshot_key"),
    path("apps/<slug:slug>/snapshots/<uuid:snapshot_id>", snapshots.SnapshotView.as_view(), name="api_snapshot"),
    path(
        "apps/<slug:slug>/snapshots/<uuid:snapshot_id>/restore",
        snapshots.SnapshotRestoreView.as_view(),
        name="api_snapshot_restore",
    ),
    path(
        "apps/<slug:slug>/snapshots/<uuid:snapshot_id>/archive",
        snapshots.SnapshotDownloadView.as_view(),
        name="api_snapshot_archive",
    ),
    path("apps/<slug:slug>/usage", deployments.UsageView.as_view(), name="api_usage"),
    path("apps/<slug:slug>/events", deployments.EventsView.as_view(), name="api_events"),
    path("price-lists", deployments.PriceListsView.as_view(), name="api_price_lists"),
]
