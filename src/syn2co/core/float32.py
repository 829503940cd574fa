"""Products of float32 numbers in float32: without TF32 and bfloat16, whatever a program has set."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def exact_float32(*, convolutions: bool = True) -> Iterator[None]:
    """Compute products of float32 matrices in float32 inside the block, and convolutions too unless told otherwise.

    TF32 rounds factors to 10 bits. The switches that the program uses, torch's older or newer ones, come back
    afterwards; nothing is written where nothing is rounded.
    """
    try:
        matmul, conv = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:  # torch refuses to read the older switches in a program that has used the newer ones
        with _exact_by_newer_switches():
            yield
        return
    if matmul != "highest":
        torch.set_float32_matmul_precision("highest")
    if conv and convolutions:
        torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        if matmul != "highest":
            torch.set_float32_matmul_precision(matmul)
        if conv and convolutions:
            torch.backends.cudnn.allow_tf32 = conv


@contextlib.contextmanager
def _exact_by_newer_switches() -> Iterator[None]:
    rounding = [(group, op, op.fp32_precision) for group, op in _operators() if op.fp32_precision in ("tf32", "bf16")]
    for _, op, _ in rounding:
        op.fp32_precision = "ieee"
    try:
        yield
    finally:
        for group, op, before in rounding:  # "none" follows the group, which is where most programs set it
            op.fp32_precision = "none" if group is not None and group.fp32_precision == before else before


def _operators() -> list[tuple[Any, Any]]:
    """Return what multiplies, each behind the group whose setting it follows unless it has its own, or None."""
    cuda: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    return [
        (cuda, torch.backends.cuda.matmul), (None, cuda.conv), (None, cuda.rnn),
        (mkldnn, mkldnn.matmul), (mkldnn, mkldnn.conv), (mkldnn, mkldnn.rnn),
    ]  # fmt: skip
