"""Memory: the C library's allocator, told to keep what a training step frees, and a lack of memory in words."""

import contextlib
import ctypes
import os
import platform
import re
from collections.abc import Iterator

from syn2co.core.errors import TrainingError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's <malloc.h>


def keep_freed_memory() -> bool:
    """Have glibc reuse large freed blocks in this process instead of returning them to the system.

    By default each large tensor is mapped anew, and the system zeroes its pages at first touch: that took 7 to 14 % of
    the CPU time of a CIFAR-10 step, and 10 to 20 % of forward passes of DeiT-S and ResNet-18 (one thread of an AMD
    EPYC). The process keeps its peak of memory until it ends. Results do not change. A user's own allocator (a library
    with "malloc" in its name in LD_PRELOAD) is left alone, and so is glibc's with SYN2CO_KEEP_MEMORY=0.

    Returns:
        Whether it was done; False without glibc (macOS, Windows, Alpine).

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    preloaded = "malloc" in os.environ.get("LD_PRELOAD", "")
    if preloaded or os.environ.get("SYN2CO_KEEP_MEMORY") == "0" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, -1))


@contextlib.contextmanager
def lack_named() -> Iterator[None]:
    """Turn a lack of memory inside the block, of Python, numpy, torch or the device, into one sentence.

    Raises:
        TrainingError: if memory has run out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_lack(error):
            raise
        raise TrainingError(
            f"{lack_in_words(error)}; lower queue.size, views.size or training.batch, or raise training.micro_batches"
        ) from None


def is_lack(error: BaseException) -> bool:
    """Return whether an error is a lack of memory: of Python, numpy, torch, the device, or of a library to be loaded.

    Args:
        error: any.

    Example:
        >>> is_lack(MemoryError()), is_lack(RuntimeError("out of memory")), is_lack(RuntimeError("no"))
        (True, True, False)
    """
    words = "out of memory|not enough memory|allocate memory|failed to map segment"
    return isinstance(error, MemoryError) or bool(re.search(words, str(error), re.IGNORECASE))


def lack_in_words(error: BaseException) -> str:
    """Return the first half of a sentence about a lack of memory.

    Args:
        error: of which `is_lack` is true.

    Example:
        >>> lack_in_words(MemoryError())
        'memory is used up (no more is given)'
    """
    return f"memory is used up ({(str(error) or 'no more is given').splitlines()[0]})"
