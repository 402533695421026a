"""What nodes stores: devices, what runs on them, and what was measured."""

from nodes.models.device import Device, EnrolmentToken
from nodes.models.lease import Lease
from nodes.models.reading import GatewayCount, MeterTotal, ReadingBatch, ReadingSequence, WipeReceipt

__all__ = [
    "Device",
    "EnrolmentToken",
    "GatewayCount",
    "Lease",
    "MeterTotal",
    "ReadingBatch",
    "ReadingSequence",
    "WipeReceipt",
]
