"""The demo data, made through the same services as everything else. Every part may be made again and changes nothing then."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path

from allauth.account.models import EmailAddress
from django.conf import settings
from django.utils import timezone
from rest_framework.authtoken.models import Token

from billing import queries as money
from billing.errors import NoRate
from billing.models import Wallet
from billing.services import desk, topups, wallets
from interchain_site.core.errors import NotAllowed
from interchain_site.core.models import User
from interchain_site.local.images import APPS, TWO_REPLICAS, WEBSITE, DemoApp
from interchain_site.local.seed_people import PASSWORDS, DemoPerson, email_of
from interchain_site.local.web import Person, pay
from marketplace.estimates import ExpectedUse
from marketplace.models import App, Deployment
from marketplace.services import deployments, publishing
from nodes.models import Device
from nodes.services import enrolment
from nodes.states import DeviceState

RATE = Decimal("0.50")  # USD per NTC
TOPUP_CENTS = 500_000
TOPUP_SECONDS = 60
# The last of Anvil's well-known development accounts; the earlier ones are the operator's.
OWNER_WALLET = "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720"
DEVICE_NAMES = {"first": "This computer", "second": "Second device", "third": "Third device"}
REGION = "us"
NAMES = {"website": "Harbour Café", "messaging": "Chat", "simulation": "Simulation"}


def operator() -> dict[str, str]:
    """Make the staff account and set a first rate; return the account. Only under DEBUG: its password is well known."""
    if not settings.DEBUG:
        raise NotAllowed("The local operator's account works only with DEBUG=1. Use manage.py createsuperuser.")
    staff = _person("staff")
    now = timezone.now()
    try:
        money.rate_in_force(now)
    except NoRate:
        desk.set_rate(rate=RATE, by=User.objects.get(email=staff.email), now=now)
    return asdict(staff)


def people() -> list[dict[str, str]]:
    """Make the demo accounts; return them, staff first."""
    made = [_person(role) for role in PASSWORDS]
    owner = User.objects.get(email=made[2].email)
    if not Wallet.objects.filter(user=owner).exists():
        wallets.link_confirmed(address=OWNER_WALLET, by=owner, now=timezone.now())
    return [asdict(person) for person in made]


def devices() -> dict[str, str]:
    """Return the tokens that enrol this computer as each of the owner's devices, by the names of `site.DEVICES`."""
    return {device: _token(name) for device, name in DEVICE_NAMES.items()}


def _token(name: str) -> str:
    owner = User.objects.get(email=email_of("owner"))
    waiting = Device.objects.filter(owner=owner, name=name, state=DeviceState.PENDING).first()
    if waiting is not None:
        return enrolment.new_token(device=waiting, by=owner)
    return enrolment.create_device(owner=owner, name=name, region=REGION)[1]


def balance() -> str:
    """See to it that the publisher has bought NTC by card once; returns what they have."""
    publisher = User.objects.get(email=email_of("publisher"))
    if not publisher.payments.filter(credited_at__isnull=False).exists():
        _buy(publisher)
    return f"{money.available_units(publisher.pk)}"


def apps(archives: Path) -> None:
    """Register the demo apps whose archives are in the folder; deploy the website, and a copy without data with two replicas."""
    publisher = User.objects.get(email=email_of("publisher"))
    for demo in APPS:
        archive = archives / f"{demo.slug}.tar"
        app = App.objects.filter(slug=demo.slug).first()
        if archive.exists() and app is None:
            app = publishing.register_app(name=NAMES[demo.slug], slug=demo.slug, by=publisher)
        if archive.exists() and app is not None and not app.releases.exists():
            _release(app, demo, archive, publisher)
    website = App.objects.filter(slug=WEBSITE.slug).first()
    if website is not None and not Deployment.objects.filter(app=website).exists():
        deployments.deploy(app=website, by=publisher)
    _on_two_devices(archives / f"{WEBSITE.slug}.tar", publisher)


def _on_two_devices(archive: Path, publisher: User) -> None:
    slug, name = TWO_REPLICAS
    app = App.objects.filter(slug=slug).first()
    if app is None and archive.exists():
        app = publishing.register_app(name=name, slug=slug, by=publisher)
    if app is not None and not app.releases.exists():
        _release(app, replace(WEBSITE, volume_path=""), archive, publisher)
    if app is not None and not Deployment.objects.filter(app=app).exists():
        deployments.deploy(app=app, expected=ExpectedUse(replicas=2), by=publisher)


def _release(app: App, demo: DemoApp, archive: Path, publisher: User) -> None:
    spec = publishing.ReleaseSpec(
        port=demo.port,
        memory_bytes=demo.memory_bytes,
        cpu_millis=demo.cpu_millis,
        disk_bytes=demo.disk_bytes,
        health_kind=demo.health,
        health_path=demo.health_path,
        volume_path=demo.volume_path,
        profile="restricted",
    )
    with archive.open("rb") as file:
        publishing.add_release(app=app, spec=spec, archive=file, by=publisher)


def _person(role: str) -> DemoPerson:
    email = email_of(role)
    user = User.objects.filter(email=email).first()
    if user is None:
        make = User.objects.create_superuser if role == "staff" else User.objects.create_user
        user = make(email, PASSWORDS[role], first_name=role.title())
    EmailAddress.objects.get_or_create(user=user, email=email, defaults={"verified": True, "primary": True})
    token, _ = Token.objects.get_or_create(user=user)
    return DemoPerson(role, email, PASSWORDS[role], token.key)


def _buy(publisher: User) -> None:
    """Pay as a person would: type a test card into the stand-in's page, then wait for its webhook."""
    now = timezone.now()
    quote = desk.quote(user=publisher, now=now, cents=TOPUP_CENTS)
    payment = topups.start_checkout(quote_id=quote.pk, user=publisher, now=now)
    with Person(settings.STRIPE_API_BASE) as person:
        pay(person, payment.session_url)
    give_up_at = time.monotonic() + TOPUP_SECONDS
    while money.available_units(publisher.pk) == 0:
        if time.monotonic() > give_up_at:
            raise TimeoutError(
                f"The card payment was not credited within {TOPUP_SECONDS} s; see the logs of web and stripe."
            )
        time.sleep(0.2)
