"""Does the work the portal gives without notice, and answers signed (docs/trust.md).

The work runs in a process of its own, `interchain-node spot-check`: its memory is given back at once, and apps go on meanwhile.
A portal that cannot be reached is told later; a check is worked at once, however often it is handed out.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable

from nodes.agent.errors import AgentError, PortalRefused
from nodes.agent.protocol import SpotCheck, SpotCheckAnswer, to_json

log = logging.getLogger(__name__)
MOST_ROUNDS = 2000  # about a minute: no portal can keep a device busy for long
LONGEST_SECONDS = 300.0


class SpotChecks:
    """The spot checks of one device, one at a time."""

    def __init__(self, *, device_id: str, sign: "Callable[[bytes], str]", send: "Callable[[str], None]") -> None:
        """Args: sign: returns a JWS of the device. send: hands it to the portal, patiently."""
        self._device_id, self._sign, self._send = device_id, sign, send
        self._known = ""

    def want(self, check: SpotCheck) -> None:
        """Begin the check if it is a new one; returns at once."""
        if not check.id or check.id == self._known or not 0 < check.rounds <= MOST_ROUNDS:
            return
        self._known = check.id
        threading.Thread(target=self._work, args=(check,), name="spot-check", daemon=True).start()

    def _work(self, check: SpotCheck) -> None:
        command = [sys.executable, "-m", "nodes.agent", "spot-check", check.seed, str(check.rounds)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=LONGEST_SECONDS, check=True)
            found = json.loads(done.stdout)
            answer = SpotCheckAnswer(check.id, self._device_id, tuple(found["digests"]), found["milliseconds"])
            self._send(self._sign(to_json(answer)))
        except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            log.warning("The spot check %s could not be done: %s", check.id, error)
        except PortalRefused as error:
            log.warning("The portal did not take the answer to spot check %s: %s", check.id, error)
        except AgentError as error:
            log.warning("The portal could not be told the answer to spot check %s: %s", check.id, error)
            self._known = ""  # the next desired state begins it again
