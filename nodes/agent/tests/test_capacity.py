"""What a device says it offers, read from the kernel's files."""

from __future__ import annotations

import pytest

from nodes.agent.capacity import link_bytes_per_second

HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


@pytest.mark.parametrize(
    ("routes", "speeds", "rated"),
    [
        ("eth0\t00000000\t0102A8C0\t0003\n", {"eth0": "1000\n"}, 125_000_000),
        ("eth0\t0002A8C0\t00000000\t0001\n", {"eth0": "1000\n"}, 0),  # leads to the LAN only
        ("eth0\t00000000\t0102A8C0\t0003\n", {"eth0": "-1\n"}, 0),  # most virtual machines
        ("wlan0\t00000000\t0102A8C0\t0003\n", {}, 0),  # Wi-Fi: reading the file fails
        ("a\t00000000\t01\t0003\nb\t00000000\t01\t0003\n", {"a": "100\n", "b": "2500\n"}, 312_500_000),
        ("", {}, 0),
    ],
)
def test_the_link_is_what_the_interface_towards_the_internet_is_rated_for(tmp_path, routes, speeds, rated):
    (tmp_path / "route").write_text(HEADER + routes)
    for name, speed in speeds.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "speed").write_text(speed)
    assert link_bytes_per_second(tmp_path / "route", tmp_path) == rated
