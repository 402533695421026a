"""How much an agent takes while nothing happens, and with ten containers, beside a Swarm worker's dockerd and the BOINC client.

    python bench/agent/idle.py --seconds 180        # root; Docker, boinc-client and openssl are needed

All run at the same time, so that whatever else the machine does hits all of them. Memory is the median of what the kernel says
every two seconds, processor time that of the whole window, children included. Writes bench/results/agent-idle.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.agent import peers  # noqa: E402
from bench.agent.process import memory_kib, seconds_of_cpu, started_agent  # noqa: E402
from interchain_site.testing import docker as engine  # noqa: E402
from nodes.agent.protocol import Desired, HealthCheck, Image, Observed  # noqa: E402
from nodes.agent.tests.conftest import lease, workload  # noqa: E402
from nodes.agent.tests.portal import FakePortal  # noqa: E402

SERVE = "httpd -f -p 8080 -h /www"
CONTAINERS = 10
CHECKED_EVERY = (1, 5)  # seconds: the most a release may ask for, and what it has when it says nothing
REST_SECONDS = 20
SAMPLE_SECONDS = 2
GOAL_BYTES, GOAL_PERCENT = 32_000_000, 0.3


def main() -> int:
    """Measure, print and write; returns 1 when the agent over HTTPS is above its goal, idle or with ten containers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--no-peers", action="store_true", help="the agent alone")
    parser.add_argument("--to", type=Path, default=ROOT / "bench" / "results" / "agent-idle.json")
    chosen = parser.parse_args()
    began_load = round(os.getloadavg()[0], 1)
    result: dict[str, object] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip(),
        "machine": f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "seconds": chosen.seconds,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        watched: dict[str, int] = {}
        certificate = _certificate(folder)
        portals = {
            what: stack.enter_context(_portal(certificate if what.startswith("agent, HTTPS") else None))
            for what in ("agent, HTTPS", "agent, HTTPS, all authorities in one file", "agent, HTTP")
        }
        for number, (what, portal) in enumerate(portals.items()):
            trust = _trust(folder, certificate, one_file="one file" in what)
            watched[what] = stack.enter_context(started_agent(portal, folder, home=f"home{number}", **trust))
        swarm = None
        if not chosen.no_peers:
            watched["BOINC client"] = stack.enter_context(peers.boinc(folder / "boinc"))
            swarm = stack.enter_context(peers.swarm_worker(folder / "swarm"))
            watched |= {"Swarm worker: dockerd": swarm.dockerd, "Swarm worker: its containerd": swarm.containerd}
        time.sleep(REST_SECONDS)
        result["idle"] = watch(watched, chosen.seconds)
        image = engine.image(SERVE)
        if swarm is not None:
            swarm.run(image, CONTAINERS)
        filled = ("agent, HTTPS", "Swarm worker: dockerd", "Swarm worker: its containerd")
        for seconds in CHECKED_EVERY:
            _fill(portals["agent, HTTPS"], image, seconds)
            time.sleep(REST_SECONDS)
            what = f"ten containers, checked every {seconds} s"
            result[what] = watch({w: watched[w] for w in filled if w in watched}, chosen.seconds)
        result["load_average"] = [began_load, round(os.getloadavg()[0], 1)]
        chosen.to.write_text(json.dumps(result, indent=1) + "\n")
    found = [result[what]["agent, HTTPS"] for what in result if what == "idle" or what.startswith("ten")]  # type: ignore[index]
    good = all(one["rss_kib"] * 1024 <= GOAL_BYTES and one["percent_of_a_core"] <= GOAL_PERCENT for one in found)
    return 0 if good else 1


def watch(watched: dict[str, int], seconds: int) -> dict[str, dict[str, float]]:
    """Return each process's memory (KiB) and share of a core over so many seconds."""
    began, before = time.monotonic(), {what: seconds_of_cpu(pid) for what, pid in watched.items()}
    samples: dict[str, list[dict[str, int]]] = {what: [] for what in watched}
    while time.monotonic() < began + seconds:
        for what, pid in watched.items():
            samples[what].append(memory_kib(pid))
        time.sleep(SAMPLE_SECONDS)
    took = time.monotonic() - began
    found: dict[str, dict[str, float]] = {}
    for what, pid in watched.items():
        found[what] = {
            "rss_kib": statistics.median(each["Rss"] for each in samples[what]),
            "own_kib": statistics.median(each["Private_Dirty"] for each in samples[what]),
            "percent_of_a_core": round(100 * (seconds_of_cpu(pid) - before[what]) / took, 2),
            "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        }
        print(f"{what:45} {found[what]}", flush=True)
    return found


def _fill(portal: FakePortal, image: str, interval_seconds: int) -> None:
    """Let ten containers run that are asked so often whether they are well, and nothing else."""
    check = HealthCheck(kind="http", path="/", interval_seconds=interval_seconds, start_seconds=60)
    what = [workload(image=Image(reference=image), cpu_millis=100, health=check) for _ in range(CONTAINERS)]
    leases = [lease(each) for each in what]
    portal.want(*leases)
    for each in leases:
        portal.wait_for(each.lease_id, Observed.RUNNING, 120)


def _portal(certificate: Path | None) -> FakePortal:
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
    portal = FakePortal(tls=tls)
    portal.desired = Desired()  # the intervals of a real portal
    return portal


def _certificate(folder: Path) -> Path:
    """Make a certificate that is its own authority."""
    path = folder / "portal.pem"
    names = ["-subj", "/CN=portal", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(path.with_suffix(".key"))]
    subprocess.run(
        ["openssl", "req", "-x509", *key, *names, "-out", path, "-days", "2"], check=True, capture_output=True
    )
    return path


def _trust(folder: Path, certificate: Path, *, one_file: bool) -> dict[str, str]:
    """Let an agent trust it as Debian keeps its authorities, one file each, or as Fedora does, all of them in one."""
    authorities = Path("/etc/ssl/certs/ca-certificates.crt").read_text()
    both, each = folder / "authorities.pem", folder / "authorities"
    both.write_text(authorities + certificate.read_text())
    each.mkdir(exist_ok=True)
    (each / "portal.pem").write_text(certificate.read_text())
    subprocess.run(["openssl", "rehash", each], check=True, capture_output=True)
    if one_file:
        return {"SSL_CERT_FILE": str(both), "SSL_CERT_DIR": "/nowhere"}
    return {"SSL_CERT_FILE": "/nowhere", "SSL_CERT_DIR": str(each)}


if __name__ == "__main__":
    raise SystemExit(main())
