"""What nodes stores: devices, what runs on them, and what was measured."""

from nodes.models.device import Device, DeviceKey, EnrolmentToken
from nodes.models.directory import DirectoryCounter, DirectoryKey, DirectoryRecord
from nodes.models.failover import Failover
from nodes.models.lease import Lease
from nodes.models.link_key import LinkKey
from nodes.models.reading import CappedClaim, GatewayCount, MeterTotal, ReadingBatch, ReadingSequence, WipeReceipt
from nodes.models.release import AgentRelease, ReleaseKey
from nodes.models.replica_set import MOST_REPLICAS, ReplicaSet
from nodes.models.rollout import Rollout
from nodes.models.route import RouteDomain, RouteOptions
from nodes.models.snapshot import Snapshot, SnapshotRepository
from nodes.models.trust import DeviceHistory, SpotCheck
from nodes.models.tunnel import TunnelPort
from nodes.models.volume_key import VolumeKey

__all__ = [
    "MOST_REPLICAS",
    "AgentRelease",
    "CappedClaim",
    "Device",
    "DeviceHistory",
    "DeviceKey",
    "DirectoryCounter",
    "DirectoryKey",
    "DirectoryRecord",
    "EnrolmentToken",
    "Failover",
    "GatewayCount",
    "Lease",
    "LinkKey",
    "MeterTotal",
    "ReadingBatch",
    "ReadingSequence",
    "ReleaseKey",
    "ReplicaSet",
    "Rollout",
    "RouteDomain",
    "RouteOptions",
    "Snapshot",
    "SnapshotRepository",
    "SpotCheck",
    "TunnelPort",
    "VolumeKey",
    "WipeReceipt",
]
