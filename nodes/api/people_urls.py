"""Under /api/v1/: what a device's owner may do by program."""

from django.urls import path

from nodes.api import people

urlpatterns = [
    path("devices", people.Devices.as_view(), name="api_devices"),
    path("devices/<uuid:device_id>", people.DeviceView.as_view(), name="api_device"),
    path("devices/<uuid:device_id>/limits", people.DeviceLimits.as_view(), name="api_device_limits"),
    path("devices/<uuid:device_id>/mode", people.DeviceMode.as_view(), name="api_device_mode"),
]
