"""Pages about devices, and what a new device or the gateway fetches."""

from django.urls import path

from nodes.api import directory
from nodes.views import devices, gateway, install, status

urlpatterns = [
    path("status/", status.status, name="status"),
    path("devices/", devices.devices, name="devices"),
    path("devices/new/", devices.device_new, name="device_new"),
    path("devices/<uuid:device_id>/", devices.device_detail, name="device_detail"),
    path("devices/<uuid:device_id>/status/", devices.device_status, name="device_status"),
    path("devices/<uuid:device_id>/command/", devices.device_token, name="device_token"),
    path("devices/<uuid:device_id>/pause/", devices.device_pause, name="device_pause"),
    path("devices/<uuid:device_id>/drain/", devices.device_drain, name="device_drain"),
    path("devices/<uuid:device_id>/limits/", devices.device_limits, name="device_limits"),
    path("devices/<uuid:device_id>/key/", devices.device_key, name="device_key"),
    path("devices/<uuid:device_id>/resume/", devices.device_resume, name="device_resume"),
    path("devices/<uuid:device_id>/remove/", devices.device_revoke, name="device_revoke"),
    path("install/agent.whl", install.agent_archive, name="agent_archive"),
    path("install/<str:token>", install.install_script, name="install_script"),
    # The portal answers as every node of the directory does (nodes/agent/gossip.py).
    path("directory/trust.json", directory.TrustFile.as_view(), name="directory_trust"),
    path("directory/<str:name>", directory.Resolve.as_view(), name="directory_resolve"),
    path("gossip/nodes", directory.Nodes.as_view(), name="directory_nodes"),
    path("gossip/suspect", directory.PublicSuspect.as_view(), name="directory_suspect"),
    path("internal/tls-ask", gateway.tls_ask, name="tls_ask"),
]
