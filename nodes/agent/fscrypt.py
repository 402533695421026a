"""A folder of an ext4 file system that only opens with a key: the kernel's fscrypt, policy version 2.

Contents AES-256-XTS, names AES-256-CTS. The key is given to the kernel for one mounted file system and goes with its last mount.
Constants and layouts: include/uapi/linux/fscrypt.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

KEY_BYTES = 64
_POLICY_V2, _AES_256_XTS, _AES_256_CTS, _PAD_32 = 2, 1, 4, 3
_POLICY = struct.Struct("=BBBBBxxx16s")  # version, contents, names, flags, data unit, reserved, identifier of the key
_KEY = struct.Struct(
    "=II32sII32x"
)  # kind of specifier, reserved, identifier of the key; size, 0, reserved; then the key
_BY_IDENTIFIER = 2


def _ioctl(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("f") << 8 | number


_SET_POLICY = _ioctl(2, 19, 12)
_GET_POLICY_EX = _ioctl(3, 22, 9)
_ADD_KEY = _ioctl(3, 23, 80)


class WrongKey(Exception):
    """The folder was made with another key."""


def add_key(mounted: str, key: bytes) -> bytes:
    """Give the kernel the key for the file system mounted here; returns the key's identifier, which tells nothing of it.

    Raises:
        OSError: this kernel or this file system has no encryption.
    """
    argument = bytearray(_KEY.pack(_BY_IDENTIFIER, 0, b"", len(key), 0) + key)
    folder = os.open(mounted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(folder, _ADD_KEY, argument, True)
        return bytes(argument[8:24])
    finally:
        os.close(folder)
        argument[_KEY.size :] = bytes(len(key))


def protect(path: str, identifier: bytes) -> None:
    """Let everything that will be in this folder, which is empty, be encrypted with the key; it is fine if it is already.

    Raises:
        WrongKey: it is encrypted with another one.
        OSError: it cannot be done.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = _identifier(folder)
        if found is None:
            policy = _POLICY.pack(_POLICY_V2, _AES_256_XTS, _AES_256_CTS, _PAD_32, 0, identifier)
            fcntl.ioctl(folder, _SET_POLICY, policy)
        elif found != identifier:
            raise WrongKey
    finally:
        os.close(folder)


def _identifier(folder: int) -> "bytes | None":
    argument = bytearray(struct.pack("=Q", _POLICY.size) + bytes(_POLICY.size))
    try:
        fcntl.ioctl(folder, _GET_POLICY_EX, argument, True)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise
    return bytes(argument[8 + 8 : 8 + 24])
