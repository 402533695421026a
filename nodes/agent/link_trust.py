"""Whether it is the portal at the other end of the link: it must sign our nonce with the key we know from enrolment, or with one
that key leads to. A device enrolled before there were such keys keeps the first one it is shown.
"""

from __future__ import annotations

import dataclasses
import logging
import uuid

from nodes.agent import config as configuration
from nodes.agent import jws
from nodes.agent.config import Config, Home
from nodes.agent.errors import AgentError
from nodes.agent.protocol import LinkKeyChange, LinkProof, PortalProof, ProtocolError, from_json

log = logging.getLogger(__name__)


class NotThePortal(AgentError):
    """Who answers the link does not have the portal's key. Nothing it says is heeded."""

    permanent = False


class LinkTrust:
    """What one device knows of its portal's key."""

    def __init__(self, home: Home, settings: Config) -> None:
        self._home, self._settings = home, settings
        self._known = settings.link_key
        self._agent = str(uuid.uuid4())  # of this run

    @property
    def demands_proof(self) -> bool:
        return bool(self._known)

    def claims(self, nonce: str) -> "dict[str, str]":
        """Return what the link's JWT says beside who we are."""
        return {"nonce": nonce, "portal_key": self._known, "agent": self._agent}

    def check(self, message: "dict[str, object]", nonce: str) -> None:
        """Take the portal's proof; a key it leads to becomes the one we know.

        Raises:
            NotThePortal: it is no proof, or not of our portal, our device or our nonce.
        """
        try:
            proof = from_json(LinkProof, message)
            key = self._follow(proof.statements) if self._known else proof.key
            said = from_json(PortalProof, jws.verified(proof.jws, key))
        except (ProtocolError, ValueError) as error:
            raise NotThePortal(
                f"Who answers as {self._settings.portal_url} does not have the key this device knows ({error}). "
                "It is not listened to. If the portal was set up anew, enrol this device again."
            ) from None
        if said != PortalProof(self._settings.device_id, self._settings.portal_url, nonce):
            raise NotThePortal("The portal's proof is not for this device and this link. It is not listened to.")
        if key != self._known:
            self._keep(key)

    def _follow(self, statements: "tuple[str, ...]") -> str:
        """Return the key these statements lead to from ours; one of an earlier key is passed over."""
        key = self._known
        for statement in statements:
            try:
                change = from_json(LinkKeyChange, jws.verified(statement, key))
            except (ProtocolError, ValueError):
                continue
            if change.kind == LinkKeyChange.kind and change.old_key == key:
                key = change.new_key
        return key

    def _keep(self, key: str) -> None:
        configuration.save(self._home, dataclasses.replace(configuration.load(self._home), link_key=key))
        log.info("The portal proves itself with the key %s… from now on.", key[:8])
        self._known = key
