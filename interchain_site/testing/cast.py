"""The people in our tests. Every permission test ends with the stranger, who may see nothing of anybody's."""

from __future__ import annotations

from dataclasses import dataclass

from allauth.account.models import EmailAddress

from interchain_site.core.models import User


@dataclass(frozen=True)
class Cast:
    publisher: User
    owner: User
    buyer: User
    staff: User
    stranger: User


def make_person(name: str, **extra: object) -> User:
    """Create a person with a verified address `<name>@example.com` and the password "correct horse"."""
    create = User.objects.create_superuser if extra.pop("staff", False) else User.objects.create_user
    user = create(f"{name}@example.com", "correct horse", first_name=name.title(), **extra)
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def make_cast() -> Cast:
    return Cast(
        publisher=make_person("publisher"),
        owner=make_person("owner"),
        buyer=make_person("buyer"),
        staff=make_person("staff", staff=True),
        stranger=make_person("stranger"),
    )
