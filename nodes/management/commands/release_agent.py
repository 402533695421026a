"""`manage.py release_agent`: sign, take and roll out versions of the agent.

release_agent sign --key release.key --out DIR     on the computer that holds the key: the wheel and its manifest
release_agent take DIR                             on the portal: check them and keep them, for 0 % of devices
release_agent rollout 1.4.0 5                      5 of a hundred devices; later 25, 100
release_agent key --key release.key                make a key if there is none, and trust it if it is the first
release_agent key --key new.key --old release.key  let the old key name the new one
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

import nodes.agent
from interchain_site.core.errors import DomainError
from nodes.agent import packaging, signing
from nodes.agent.errors import AgentError
from nodes.models import AgentRelease
from nodes.services import releases

WHEEL, MANIFEST = "agent.whl", "manifest.jws"


class Command(BaseCommand):
    help = "Signs versions of the node agent, takes signed ones, and says how many devices should run them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        steps = parser.add_subparsers(required=True, dest="step")
        key = steps.add_parser("key", help="make or change the release key")
        key.add_argument("--key", required=True, type=Path, help="PEM file of the private key; keep it off the portal")
        key.add_argument("--old", type=Path, help="the key in force, which names the new one")
        sign = steps.add_parser("sign", help="build the agent from this source and sign it")
        sign.add_argument("--key", required=True, type=Path)
        sign.add_argument("--out", required=True, type=Path, help="folder for the wheel and its manifest")
        sign.add_argument("--agent-version", default=nodes.agent.__version__)
        take = steps.add_parser("take", help="check a signed version and keep it")
        take.add_argument("folder", type=Path)
        take.add_argument("--percent", type=int, default=0)
        rollout = steps.add_parser("rollout", help="say how many of a hundred devices should run a version")
        rollout.add_argument("release")
        rollout.add_argument("percent", type=int)

    def handle(self, *args: Any, step: str, **options: Any) -> None:
        try:
            self.stdout.write(getattr(self, step)(**options))
        except (DomainError, AgentError) as error:
            raise CommandError(str(error)) from None

    def key(self, *, key: Path, old: Path | None, **_: Any) -> str:
        new = signing.key(key)
        if old is None:
            current = releases.key_in_force()
            if current is None or current.public_key != new.public_x:
                releases.trust_first_key(public_key=new.public_x)
        else:
            releases.change_key(statement=signing.key_change(signing.key(old), new))
        return f"Versions signed by {new.public_x} are trusted."

    def sign(self, *, key: Path, out: Path, agent_version: str, **_: Any) -> str:
        wheel = packaging.build_archive(agent_version)
        out.mkdir(parents=True, exist_ok=True)
        (out / WHEEL).write_bytes(wheel)
        (out / MANIFEST).write_text(signing.manifest(wheel, agent_version, signing.key(key)))
        return f"Version {agent_version} is signed in {out}."

    def take(self, *, folder: Path, percent: int, **_: Any) -> str:
        manifest, wheel = (folder / MANIFEST).read_text().strip(), (folder / WHEEL).read_bytes()
        release = releases.take(manifest=manifest, wheel=wheel, percent=percent)
        return f"Version {release.version} is for {release.percent} of a hundred devices."

    def rollout(self, *, release: str, percent: int, **_: Any) -> str:
        found = AgentRelease.objects.filter(version=release).first()
        if found is None:
            raise CommandError(f"There is no version {release}.")
        releases.set_percent(release=found, percent=percent, by=None)
        return f"Version {found.version} is for {found.percent} of a hundred devices."
