"""Identities of images: keys by name and content, and group numbers."""

import re
from hashlib import blake2b

HASHED = 1 << 62
"""Set in every hashed group, and in no position of a set and in no hash of a key."""


def group_id(text: str) -> int:
    """Return a stable group for a text, between 2**62 and 2**63 - 1."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") & (HASHED - 1) | HASHED


def image_key(name: str, checksum: int) -> str:
    """Return "name#checksum": an image by name and content."""
    return f"{name}#{checksum:08x}"


def key_id(name: str, checksum: int) -> int:
    """Return a hash of an image's key below 2**62, whose lower 32 bits are the checksum."""
    return (group_id(name) & (HASHED - 1)) >> 32 << 32 | checksum


def source_id(key: str) -> int:
    """Return the `key_id` of an `image_key`; of another text a hash that no image has."""
    name, _, checksum = key.rpartition("#")
    return key_id(name, int(checksum, 16)) if re.fullmatch("[0-9a-f]{8}", checksum) else group_id(key)
