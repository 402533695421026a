"""Loop devices: a file that the kernel offers as a disk. Everything here needs CAP_SYS_ADMIN and /dev/loop-control.

A device is attached so that it lets go by itself when its last user does: nothing is left of an agent that was killed, and
nothing after a container's volume was unmounted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

CONTROL = "/dev/loop-control"
_GET_FREE = 0x4C82
_SET_FD, _CLEAR_FD, _SET_STATUS64, _GET_STATUS64, _CONFIGURE = 0x4C00, 0x4C01, 0x4C04, 0x4C05, 0x4C0A
_AUTOCLEAR = 4
# struct loop_info64: device, inode, rdevice, offset, sizelimit, number, encrypt type, its key's size, flags, two names, key, init
_INFO = struct.Struct("=QQQQQIIII64s64s32s2Q")
_MOST_TRIES = 8  # somebody else may take the free device first


def attach(file: Path) -> "tuple[str, int]":
    """Offer the file as a disk.

    Returns:
        the device's path, and a descriptor that keeps it until it is closed, or for as long as the device is mounted.

    Raises:
        OSError: there is no free loop device, or no right to use one.
    """
    backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_MOST_TRIES):
            path = _free()
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                _configure(device, backing, file)
                return path, device
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
        raise OSError(errno.EBUSY, "every free loop device was taken by somebody else meanwhile")
    finally:
        os.close(backing)


def attached(file: Path) -> str:
    """Return the device that offers the file now, "" if there is none."""
    wanted = file.stat()
    for folder in Path("/sys/block").glob("loop*/loop"):
        path = f"/dev/{folder.parent.name}"
        try:
            device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            found = _INFO.unpack(fcntl.ioctl(device, _GET_STATUS64, bytes(_INFO.size)))
            if (_device_number(found[0]), found[1]) == (wanted.st_dev, wanted.st_ino):
                return path
        except OSError:
            continue  # let go meanwhile
        finally:
            os.close(device)
    return ""


def hold(file: Path) -> "tuple[str, int] | None":
    """Return what `attach` would, if the file is offered already: still mounted, or about to be let go."""
    path = attached(file)
    if not path:
        return None
    device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    if attached(file) == path:
        return path, device
    os.close(device)
    return None


def detach(path: str) -> None:
    """Let go of a device that nobody should have any more; it is fine if it is let go already."""
    try:
        device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.ioctl(device, _CLEAR_FD)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    finally:
        os.close(device)


def _free() -> str:
    control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        number = fcntl.ioctl(control, _GET_FREE)
    finally:
        os.close(control)
    return f"/dev/loop{number}"


def _configure(device: int, backing: int, file: Path) -> None:
    name = os.fsencode(file)[-63:]  # only shown to people: losetup -l
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR, name, b"", b"", 0, 0)
    try:
        fcntl.ioctl(device, _CONFIGURE, struct.pack("=II", backing, 0) + info + bytes(64))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTTY):
            raise
        fcntl.ioctl(device, _SET_FD, backing)  # kernels before 5.8
        fcntl.ioctl(device, _SET_STATUS64, info)


def _device_number(encoded: int) -> int:
    """Return the number `stat` gives for what the kernel writes as huge_encode_dev."""
    major = (encoded >> 8) & 0xFFF
    minor = (encoded & 0xFF) | ((encoded >> 12) & 0xFFF00)
    return os.makedev(major, minor)
