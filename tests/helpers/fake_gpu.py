"""A GPU without float64, as Apple's are, made of CPU tensors: an operator that gives float64 there raises.

`WAITS` lists the functions of syn2co in which the host of a real GPU would have to wait for it.

It stays in the process that has asked for it, so tests use it in one of their own.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "fakegpu"
WAITS: list[str] = []
_ATEN: Any = torch.ops.aten
_DATA_DEPENDENT = {  # what they give, or how large it is, the host has to know
    _ATEN._local_scalar_dense.default, _ATEN.nonzero.default, _ATEN.masked_select.default, _ATEN._unique2.default,
    _ATEN.repeat_interleave.Tensor, _ATEN.equal.default,
}  # fmt: skip


registration: Any = backend_registration


class OnGpu(torch.Tensor):
    """A tensor of that device; its values lie in `inner`."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnGpu":
        if inner.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        make: Any = torch.Tensor._make_wrapper_subclass
        tensor = make(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=torch.device(NAME, 0), requires_grad=inner.requires_grad,
        )  # fmt: skip
        tensor.inner = inner
        return tensor

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnGpu({self.inner})"

    def tolist(self) -> Any:
        _wait()
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _wait() -> None:
    """Note the innermost function of syn2co."""
    frame: Any = sys._getframe()
    while not frame.f_globals.get("__name__", "").startswith("syn2co."):
        frame = frame.f_back
    WAITS.append(frame.f_code.co_qualname)


def _waits(func: Any, tensors: list[torch.Tensor], there: bool) -> bool:
    """Return whether the host waits: for a value, or for a copy from or to memory that is not page-locked."""
    ours = [isinstance(tensor, OnGpu) for tensor in tensors]
    if func is _ATEN._to_copy.default:
        return ours[0] != there and not getattr(tensors[0], "pinned", False)
    if func is _ATEN.copy_.default:
        return ours[0] != ours[1]
    masks = [tensor for tensor in tensors[1:] if tensor.dtype in (torch.bool, torch.uint8)]
    return any(ours) and (func in _DATA_DEPENDENT or (func is _ATEN.index.Tensor and bool(masks)))


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operator on the values, and leave its results where the device would."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [isinstance(tensor, OnGpu) for tensor in tensors]
    wanted = kwargs.get("device")
    there = torch.device(wanted).type == NAME if wanted is not None else any(ours)
    if _waits(func, tensors, there):
        _wait()
    copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    mixed = [tensor for tensor, on_gpu in zip(tensors, ours, strict=True) if not on_gpu and tensor.dim()]
    indices = func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
    if any(ours) and mixed and not copies and not (indices and all(not t.is_floating_point() for t in mixed)):
        raise RuntimeError(f"{func}: Expected all tensors to be on the same device, but found {NAME} and cpu")
    inner_args, inner_kwargs = tree_map_only(OnGpu, lambda tensor: tensor.inner, (args, kwargs))
    if wanted is not None:
        inner_kwargs = {**inner_kwargs, "device": torch.device("cpu")}
    result = func(*inner_args, **inner_kwargs)
    if not there:
        return result
    wrapped = tree_map_only(torch.Tensor, OnGpu, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if any(ours) else wrapped


class _Factories(TorchDispatchMode):
    """Makes tensors on the device where code asks for it by name."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Module(registration._DummyBackendModule):
    """What torch asks of torch.fakegpu."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def _register_kernels() -> torch.library.Library:
    """Register what `torch.tensor` and `new_tensor` call, which no mode sees."""
    library = torch.library.Library("aten", "IMPL")

    def empty_strided(size: Any, stride: Any, *, dtype: Any = None, device: Any = None, **_: Any) -> OnGpu:
        return OnGpu(torch.empty_strided(size, stride, dtype=dtype))

    def copy_from(source: torch.Tensor, target: Any, non_blocking: bool = False) -> Any:
        _wait()
        target.inner.copy_(source.inner if isinstance(source, OnGpu) else source)
        return target

    library.impl("empty_strided", empty_strided, "PrivateUse1")
    library.impl("_copy_from", copy_from, "PrivateUse1")
    return library


@contextmanager
def fake_gpu() -> Iterator[torch.device]:
    """Let the device be there inside the block; it takes modules and tensors."""
    registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    torch.__future__.set_swap_module_params_on_conversion(True)
    _library = _register_kernels()  # ends with the block
    with _Factories():
        yield torch.device(NAME, 0)
