"""Keyed randomness: every draw is a function of a key such as (seed, epoch, index, view), never of ambient state.

So results do not depend on workers, batch order, ranks or restarts. Source: counter-based generators,
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox); SplitMix64, Steele et al., OOPSLA 2014.
"""

import contextlib
from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Key = int | str
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def digest(*key: Key) -> bytes:
    """Return 16 bytes that depend on every part of `key`, its type and its position.

    Args:
        key: integers and texts; their order and their types count.

    Example:
        >>> digest("views", 0) == digest("views", "0")
        False
    """
    text = "\x1f".join(f"{type(part).__name__[0]}{part}" for part in key)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def key64(*key: Key) -> int:
    """Return an integer in [0, 2^64) that depends on `key`.

    Args:
        key: integers and texts; their order and their types count.

    Example:
        >>> key64("views", 0, 1, 2)
        2592087719832382609
    """
    return int.from_bytes(digest(*key)[:8], "little")


def generator(*key: Key) -> np.random.Generator:
    """Return a fresh NumPy generator whose whole stream is a function of `key` (about 10 microseconds).

    Args:
        key: integers and texts; their order and their types count.

    Example:
        >>> generator("crops", 7).integers(10, size=3).tolist() == generator("crops", 7).integers(10, size=3).tolist()
        True
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest(*key), "little")))


def permutation(length: int, *key: Key) -> NDArray[np.int64]:
    """Return a permutation of range(length) that is a function of `key`, shape [length].

    Args:
        length: how many numbers.
        key: integers and texts; their order and their types count.

    Example:
        >>> permutation(5, "epoch order", 0, 0).tolist()
        [2, 3, 0, 4, 1]
    """
    return generator(*key).permutation(length)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the SplitMix64 finalizer of each value: one input bit flips about half of the output bits.

    Args:
        values: any 64-bit integers; 0 stays 0.

    Example:
        >>> mix(np.array([0, 1], np.uint64)).tolist()
        [0, 6238072747940578789]
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def fold(state: NDArray[np.uint64], values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return `state` with `values` hashed into it, elementwise (broadcasting): one link of a vectorized key.

    Args:
        state: hashes so far, such as an array of `key64`.
        values: the next part of each key.

    Example:
        >>> start = np.full(3, key64("x"), np.uint64)
        >>> uniforms(fold(start, np.arange(3, dtype=np.uint64))).round(4).tolist()
        [0.0101, 0.8321, 0.0544]
    """
    with np.errstate(over="ignore"):
        return mix((state ^ mix(values + _GOLDEN)) + _GOLDEN)


def uniforms(hashed: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return the hashed keys as numbers in [0, 1) with 53 random bits.

    Args:
        hashed: what `fold` or `mix` returned.

    Example:
        >>> uniforms(np.array([0, 2**63], np.uint64)).tolist()
        [0.0, 0.5]
    """
    return (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53


@contextlib.contextmanager
def torch_seed(*key: Key) -> Iterator[None]:
    """Seed torch's CPU generator from `key` inside the block and restore it afterwards.

    For third-party code that draws from ambient state (weight initialization). Not for anything drawn per step.

    Args:
        key: integers and texts; their order and their types count.

    Example:
        >>> import torch
        >>> with torch_seed("weights", 1):
        ...     first = torch.rand(3)
        >>> with torch_seed("weights", 1):
        ...     torch.equal(first, torch.rand(3))
        True
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key64(*key) >> 1)
        yield
