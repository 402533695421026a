"""A Docker Engine of a test's own, in a network of its own, that may be filled up, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS = 60.0


@dataclass
class PrivateEngine:
    """One dockerd with its own containerd, folders and socket."""

    folder: Path
    data: Path
    options: "list[str]"
    network: bool = True  # whether it gets a network namespace of its own
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def start(self) -> None:
        self.data.mkdir(exist_ok=True)
        (self.folder / "docker.pid").unlink(missing_ok=True)
        namespace = ["unshare", "--net"] if self.network else []
        command = [*namespace, "dockerd", "--data-root", str(self.data), "--exec-root", str(self.folder / "exec")]
        if "--storage-driver" in self.options:  # Docker's own, also where this machine's Docker uses containerd's store
            settings = self.folder / "daemon.json"
            settings.write_text("{}")
            command += ["--config-file", str(settings)]
        command += ["-H", self.address, "-p", str(self.folder / "docker.pid"), *self.options]
        with (self.folder / "dockerd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "dockerd.log").read_text()[-2000:]
            assert time.monotonic() < until, "dockerd does not come up"
            time.sleep(0.1)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End dockerd as a crash does, and its containerd with it: containers' own processes are left."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        self.process.wait(60)
        # Where nobody reaps orphans its process number would go on looking taken, and dockerd wait for it in vain.
        (self.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def docker(self, *arguments: str, input: "bytes | None" = None) -> str:
        environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
        command = ["docker", "-H", self.address, *arguments]
        done = subprocess.run(command, input=input, capture_output=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def _answers(self) -> bool:
        command = ["docker", "-H", self.address, "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def private_engine(folder: Path, *, data: Path, options: "list[str]", network: bool = True) -> Iterator[PrivateEngine]:
    """Run one until the block ends; every container of it ends too."""
    running, mounted = PrivateEngine(folder, data, options, network), mounts(data)
    running.start()
    try:
        yield running
    finally:
        with suppress(AssertionError):
            found = running.docker("ps", "-aq").split()
            if found:
                running.docker("rm", "-f", "-v", *found)
        running.kill(signal.SIGTERM)
        with suppress(OSError):
            os.killpg(running.process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        while mounts(data) > mounted:  # dockerd mounts its folder on itself; one that was killed leaves it so
            subprocess.run(["umount", "-R", "-l", data], check=True)


def mounts(folder: Path) -> int:
    """Return how many file systems are mounted on a folder, one over the other."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sum(line.split()[4] == str(folder) for line in lines)
