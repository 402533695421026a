"""The owner's pages: the list of devices, one device, a new device and its command, and what can be done with it."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from interchain_site.core.errors import Invalid
from nodes import queries, screens, traffic_check
from nodes.forms import DeviceForm
from nodes.limits_form import LimitsForm, initial
from nodes.services import device_keys, enrolment, owner_limits
from nodes.services import devices as device_services
from nodes.states import DeviceState
from nodes.views.people import owner_of, signed_in


@signed_in
@require_GET
def devices(request: HttpRequest) -> HttpResponse:
    """All devices of a person, with the fragment that keeps them current."""
    fragment = "nodes/_devices.html" if request.headers.get("HX-Request") else "nodes/devices.html"
    return render(request, fragment, {"devices": screens.devices(queries.devices_of(owner_of(request)))})


@signed_in
def device_new(request: HttpRequest) -> HttpResponse:
    """Name a device; its page then shows the one command to type on it."""
    form = DeviceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            device, token = enrolment.create_device(owner=owner_of(request), **form.cleaned_data)
        except Invalid as error:
            for name, text in error.fields.items():
                form.add_error(name, text)
        else:
            request.session[f"enrol:{device.pk}"] = token
            return redirect("device_detail", device.pk)
    return render(request, "nodes/device_new.html", {"form": form})


@signed_in
@require_GET
def device_detail(request: HttpRequest, device_id: UUID) -> HttpResponse:
    """One device: how it is, what it can do, what runs on it, what it measured."""
    device = queries.device_of(owner_of(request), device_id)
    token = request.session.get(f"enrol:{device.pk}")
    if token and device.state != DeviceState.PENDING:
        del request.session[f"enrol:{device.pk}"]
    context = screens.device(device) | {
        "command": screens.install_command(token) if token else "",
        "docker_command": screens.docker_command(token) if token else "",
        "traffic": traffic_check.of_device(device),
    }
    return render(request, "nodes/device_detail.html", context)


@signed_in
@require_GET
def device_status(request: HttpRequest, device_id: UUID) -> HttpResponse:
    """The part of a device's page that changes by itself; a device that has just enrolled reloads the page."""
    device = queries.device_of(owner_of(request), device_id)
    response = render(request, "nodes/_device_status.html", screens.device(device))
    if request.GET.get("was") == DeviceState.PENDING and device.state != DeviceState.PENDING:
        response["HX-Refresh"] = "true"
    return response


@signed_in
@require_POST
def device_token(request: HttpRequest, device_id: UUID) -> HttpResponse:
    """Make a new command; the one before stops working."""
    device = queries.device_of(owner_of(request), device_id)
    request.session[f"enrol:{device.pk}"] = enrolment.new_token(device=device, by=owner_of(request))
    return redirect("device_detail", device.pk)


@signed_in
@require_POST
def device_pause(request: HttpRequest, device_id: UUID) -> HttpResponse:
    device = queries.device_of(owner_of(request), device_id)
    device_services.pause_device(device=device, by=owner_of(request))
    messages.success(request, f"{device.name} takes no new apps. What runs on it goes on.")
    return redirect("device_detail", device.pk)


@signed_in
@require_POST
def device_drain(request: HttpRequest, device_id: UUID) -> HttpResponse:
    device = queries.device_of(owner_of(request), device_id)
    device_services.drain_device(device=device, by=owner_of(request))
    messages.success(request, f"{device.name} takes no new apps, and what runs on it moves away.")
    return redirect("device_detail", device.pk)


@signed_in
def device_limits(request: HttpRequest, device_id: UUID) -> HttpResponse:
    """What an owner lends of a device, when, and to which apps."""
    device = queries.device_of(owner_of(request), device_id)
    form = LimitsForm(request.POST or None, initial=initial(device.both_limits[0]))
    if request.method == "POST" and form.is_valid():
        try:
            owner_limits.set_limits(device=device, limits=form.limits(), by=owner_of(request))
        except Invalid as error:
            for name, text in error.fields.items():
                form.add_error(name if name in form.fields else None, text)
        else:
            messages.success(request, f"{device.name} keeps to these limits from now on.")
            return redirect("device_detail", device.pk)
    return render(request, "nodes/device_limits.html", {"device": device, "form": form, "own": device.both_limits[1]})


@signed_in
@require_POST
def device_resume(request: HttpRequest, device_id: UUID) -> HttpResponse:
    device = queries.device_of(owner_of(request), device_id)
    device_services.resume_device(device=device, by=owner_of(request))
    messages.success(request, f"{device.name} takes apps again.")
    return redirect("device_detail", device.pk)


@signed_in
@require_POST
def device_key(request: HttpRequest, device_id: UUID) -> HttpResponse:
    """Ask a device for a fresh key."""
    device = queries.device_of(owner_of(request), device_id)
    device_keys.want_new(device=device, by=owner_of(request))
    messages.success(request, f"{device.name} makes itself a new key as soon as it hears of it.")
    return redirect("device_detail", device.pk)


@signed_in
@require_POST
def device_revoke(request: HttpRequest, device_id: UUID) -> HttpResponse:
    device = queries.device_of(owner_of(request), device_id)
    device_services.revoke_device(device=device, by=owner_of(request))
    messages.success(request, f"{device.name} was removed. To lend it again, add it as a new device.")
    return redirect("devices")
