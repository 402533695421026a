"""What a container gets, line by line: a change here is a change of what strangers may do on people's computers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nodes.agent import sandbox, seccomp
from nodes.agent.disk_pace import Pace
from nodes.agent.protocol import Profile
from nodes.agent.sandbox import Placement, container_arguments
from nodes.agent.tests.conftest import workload

AT = Placement("dev", "lease", 3, "sha256:abc", "127.0.0.1", 20_007, "icn-0123456789", "10.231.0.2")
WORK = workload(id="w", environment={"B": "2", "A": "1"}, memory_bytes=100, cpu_millis=250, disk_bytes=1000)

BASELINE = {
    "Image": "sha256:abc",
    "Labels": {
        "io.interchain.device": "dev",
        "io.interchain.lease": "lease",
        "io.interchain.generation": "3",
        "io.interchain.workload": "w",
        "io.interchain.runtime": "runc",
        "io.interchain.bridge": "icn-0123456789",
        "io.interchain.address": "10.231.0.2",
        "io.interchain.port": "20007",
    },
    "Env": ["A=1", "B=2"],
    "ExposedPorts": {"8080/tcp": {}},
    "Hostname": "blog",
    "Healthcheck": {"Test": ["NONE"]},
    "NetworkingConfig": {"EndpointsConfig": {"icn-0123456789": {"IPAMConfig": {"IPv4Address": "10.231.0.2"}}}},
    "HostConfig": {
        "NetworkMode": "icn-0123456789",
        "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "20007"}]},
        "PublishAllPorts": False,
        "CapDrop": ["ALL"],
        "CapAdd": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "SETGID", "SETUID"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp.profile()}"],
        "Privileged": False,
        "Init": False,
        "ReadonlyRootfs": False,
        "Memory": 100,
        "MemorySwap": 100,
        "CpuPeriod": 100_000,
        "CpuQuota": 25_000,
        "PidsLimit": 512,
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "fsize", "Soft": 1000, "Hard": 1000},
            {"Name": "nofile", "Soft": 16_384, "Hard": 16_384},
            {"Name": "msgqueue", "Soft": 409_600, "Hard": 409_600},
            {"Name": "sigpending", "Soft": 4096, "Hard": 4096},
        ],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        "CgroupnsMode": "private",
        "IpcMode": "private",
        "RestartPolicy": {"Name": "no"},
        "Dns": ["127.0.0.1"],
        "DnsOptions": ["timeout:1", "attempts:1"],
    },
}


def test_baseline() -> None:
    assert container_arguments(WORK, AT) == BASELINE


def test_restricted_is_baseline_with_less() -> None:
    found = container_arguments(replace(WORK, profile=Profile.RESTRICTED), AT)
    tmpfs = "rw,noexec,nosuid,nodev,size=67108864,mode=1777"
    host = {**BASELINE["HostConfig"], "CapAdd": [], "ReadonlyRootfs": True, "Tmpfs": {"/tmp": tmpfs, "/run": tmpfs}}
    assert found == {**BASELINE, "User": "65532:65532", "HostConfig": host}


def test_what_an_image_wants_kept_apart_is_memory_of_a_restricted_app() -> None:
    at = replace(AT, user="7:8", image_volumes=("/junk/", "/data/", "//run"))
    what = replace(WORK, profile=Profile.RESTRICTED, volume_path="/data")
    options = container_arguments(what, at)["HostConfig"]["Tmpfs"]
    tmpfs = "rw,noexec,nosuid,nodev,size=67108864,mode=1777"
    assert options == {"/junk": f"{tmpfs},uid=7,gid=8", "/tmp": tmpfs, "/run": tmpfs}


@pytest.mark.parametrize(
    ("image_user", "runs_as"),
    [
        ("", "65532:65532"),
        ("root", "65532:65532"),
        ("0", "65532:65532"),
        ("0:1000", "65532:65532"),
        ("app", "65532:65532"),
        ("1000", "1000:1000"),
        ("1000:2000", "1000:2000"),
        ("1000:0", "1000:1000"),
        ("1000:wheel", "1000:1000"),
        ("00", "65532:65532"),
        ("²", "65532:65532"),
        ("4294967296", "65532:65532"),
        ("7:4294967296", "7:7"),
    ],
)
def test_restricted_is_never_root(image_user: str, runs_as: str) -> None:
    assert sandbox.unprivileged(image_user) == runs_as


def test_what_joins_a_holder_has_all_other_locks() -> None:
    found = container_arguments(WORK, replace(AT, holder="abc"))
    theirs = ("ExposedPorts", "Hostname", "NetworkingConfig", "HostConfig")
    assert found == {name: value for name, value in BASELINE.items() if name not in theirs} | {
        "HostConfig": {
            name: value
            for name, value in BASELINE["HostConfig"].items()
            if name not in ("PortBindings", "Dns", "DnsOptions")
        }
        | {"NetworkMode": "container:abc"}
    }


def test_a_holder_is_locked_and_resolves_nothing() -> None:
    found = sandbox.holder_arguments(
        "icn-0123456789", "10.231.0.2", image="sha256:h", device_id="dev", host_ip="127.0.0.1", host_port=20_007
    )
    assert found == {
        "Image": "sha256:h",
        "Labels": {"io.interchain.device": "dev", "io.interchain.holder": "icn-0123456789"},
        "User": "65532:65532",
        "Hostname": "app",
        "ExposedPorts": {"1/tcp": {}},
        "NetworkingConfig": BASELINE["NetworkingConfig"],
        "HostConfig": {
            "NetworkMode": "icn-0123456789",
            "PortBindings": {"1/tcp": [{"HostIp": "127.0.0.1", "HostPort": "20007"}]},
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Memory": 16 * 2**20,
            "MemorySwap": 16 * 2**20,
            "PidsLimit": 4,
            "LogConfig": {"Type": "none"},
            "CgroupnsMode": "private",
            "IpcMode": "private",
            "RestartPolicy": {"Name": "no"},
            "Dns": ["127.0.0.1"],
            "DnsOptions": ["timeout:1", "attempts:1"],
        },
    }


def test_a_volume_is_the_workloads_and_the_devices_own() -> None:
    found = container_arguments(replace(WORK, volume_path="/data"), AT)["HostConfig"]["Mounts"]
    assert found == [
        {
            "Type": "volume",
            "Source": sandbox.volume_name("dev", "w"),
            "Target": "/data",
            "VolumeOptions": {
                "Labels": {"io.interchain.device": "dev", "io.interchain.workload": "w"},
                "NoCopy": False,
            },
        }
    ]
    assert sandbox.volume_name("dev", "w") != sandbox.volume_name("other", "w")


def test_each_device_is_written_at_its_pace() -> None:
    paces = (Pace("/v.dev", 5, 7), Pace("/l.dev", 0, 8))
    host = container_arguments(WORK, replace(AT, paces=paces))["HostConfig"]
    assert host["BlkioDeviceWriteBps"] == [{"Path": "/v.dev", "Rate": 5}]
    assert host["BlkioDeviceWriteIOps"] == [{"Path": "/v.dev", "Rate": 7}, {"Path": "/l.dev", "Rate": 8}]
    assert not any(name.startswith("Blkio") for name in container_arguments(WORK, AT)["HostConfig"])


def test_outbound_asks_public_name_servers() -> None:
    host = container_arguments(WORK, replace(AT, outbound=True, dns_servers=("9.9.9.9",)))["HostConfig"]
    assert host["Dns"] == ["9.9.9.9"]
    assert "DnsOptions" not in host


def test_a_bridge_is_named_by_its_policy_and_fits_the_kernel() -> None:
    found = sandbox.network_arguments("icn-0123456789", "10.231.0.0/29", "dev")
    assert found["Options"]["com.docker.network.bridge.name"] == found["Name"]
    assert len(found["Name"]) <= 15
    assert found["Options"]["com.docker.network.bridge.enable_icc"] == "false"


def test_calls_are_refused_unless_listed_and_some_never_are() -> None:
    profile = json.loads(seccomp.profile())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    never = (
        "io_uring_setup io_uring_enter io_uring_register bpf mount setns unshare keyctl add_key userfaultfd init_module"
    )
    assert not allowed & set(never.split())
    (socket,) = [rule for rule in profile["syscalls"] if "socket" in rule["names"]]
    assert socket["args"] == [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}], "no sockets to the hypervisor"
