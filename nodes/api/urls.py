"""Under /api/node/v1/: what agents call."""

from django.urls import path

from nodes.api import agents, directory

urlpatterns = [
    path("enrol", agents.Enrol.as_view(), name="node_enrol"),
    path("desired", agents.DesiredView.as_view(), name="node_desired"),
    path("report", agents.ReportView.as_view(), name="node_report"),
    path("install-checks", agents.InstallChecks.as_view(), name="node_install_checks"),
    path("checks", agents.Checks.as_view(), name="node_checks"),
    path("mode", agents.ModeView.as_view(), name="node_mode"),
    path("key", agents.Key.as_view(), name="node_key"),
    path("leave", agents.Leave.as_view(), name="node_leave"),
    path("readings", agents.Readings.as_view(), name="node_readings"),
    path("receipts", agents.Receipts.as_view(), name="node_receipts"),
    path("snapshot-access", agents.SnapshotAccess.as_view(), name="node_snapshot_access"),
    path("snapshots", agents.Snapshots.as_view(), name="node_snapshots"),
    path("spot-check", agents.SpotCheck.as_view(), name="node_spot_check"),
    path("release", agents.Release.as_view(), name="node_release"),
    path("releases/<str:sha256>", agents.ReleaseFile.as_view(), name="node_release_file"),
    path("directory", directory.Changes.as_view(), name="node_directory"),
    path("suspects", directory.Suspects.as_view(), name="node_suspects"),
    path("archives/<str:sha256>", agents.Archive.as_view(), name="node_archive"),
]
