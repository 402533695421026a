"""Which contracts are ours: the file `ETHEREUM_DEPLOYMENTS_FILE`, written by `manage.py deploy_contracts`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from django.conf import settings

from billing.chain.contracts import Intercoin, Settlement
from billing.chain.errors import NotDeployed, OldDeployment


@dataclass(frozen=True)
class Deployment:
    """Addresses on one chain. `block` is the first in which any of them can have events."""

    chain_id: int
    intercoin: str
    settlement: str
    sale: str
    vault: str
    timelock: str
    stablecoin: str
    ether_feed: str
    ntc_feed: str
    block: int

    @property
    def token(self) -> Intercoin:
        return Intercoin(self.intercoin)

    @property
    def contract(self) -> Settlement:
        return Settlement(self.settlement)

    @property
    def watched(self) -> dict[str, str]:
        """The contracts whose events we follow, `{address: name}`."""
        return {self.settlement: "Settlement", self.sale: "TokenSale", self.vault: "FounderVault"}


def recorded() -> Deployment | None:
    """Return what the file says, or None when there is none for this chain.

    Raises:
        OldDeployment: the file is of an older version of Interchain, or damaged.
    """
    path = settings.ETHEREUM_DEPLOYMENTS_FILE
    try:
        deployment = Deployment(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (TypeError, ValueError) as error:
        raise OldDeployment.at(str(path)) from error
    return deployment if deployment.chain_id == settings.ETHEREUM_CHAIN_ID else None


def load() -> Deployment:
    """Return the contracts in use.

    Raises:
        NotDeployed: the file is missing or is another chain's.
        OldDeployment: see `recorded`.
    """
    deployment = recorded()
    if deployment is None:
        raise NotDeployed
    return deployment


def record(deployment: Deployment) -> None:
    """Write the file, whole or not at all."""
    path = settings.ETHEREUM_DEPLOYMENTS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(deployment), indent=1, sort_keys=True) + "\n")
    draft.replace(path)
