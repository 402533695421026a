"""The directory of a device as a process of its own: the agent's real store, server and gossip, without Docker.

Args: home folder, address, port, directory key, then peers. A line "since N" on standard input is not needed: it gossips by itself.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from nodes.agent import directory
from nodes.agent.config import Config, Home
from nodes.agent.contact import Contact
from nodes.agent.protocol import Desired


def main(folder: str, address: str, port: str, key: str, *peers: str) -> None:
    directory.GOSSIP_SECONDS, directory.LEARNING_SECONDS = 0.5, 0.1
    home = Home(Path(folder))
    home.create()
    settings = Config(
        device_id=f"{address}:{port}",
        portal_url="http://portal.invalid",
        link_url="ws://portal.invalid",
        instructions_per_second=1,
        publish_address=address,
        directory_key=key,
        directory_port=int(port),
    )
    running = directory.Directory(
        home,
        settings,
        Contact(),
        desired=Desired,
        hold=lambda decision: None,
        news=lambda: print("suspected", flush=True),  # noqa: T201 (read by the test)
    )
    if peers:
        running.store.set_fact("peers", " ".join(peers))
    running.start()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
