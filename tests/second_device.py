"""A device that is not there: tensors on it live in ordinary memory, and cannot be mixed with those of the cpu.

Code that would fail on a GPU because of where its tensors are fails here in the same way: an operation on tensors of
two devices, `.numpy()` without `.cpu()`. The cpu does the work, so the numbers are the cpu's.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "meta"
"""What torch calls a device of which it knows nothing but the shapes of tensors; here they have values too."""


class There(torch.Tensor):
    """A tensor on the second device."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "There":
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=NAME
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _apply(function, args, kwargs or {})


class SecondDevice(TorchDispatchMode):
    """In this block there is a second device, called `NAME`."""

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _apply(function, args, kwargs or {})


MIXING = {torch.ops.aten.copy_.default, torch.ops.aten.index.Tensor}
"""Operations that take tensors of two devices on a GPU too."""


def _apply(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    there = [isinstance(t, There) for t in tensors]
    here = [t for t, is_there in zip(tensors, there, strict=True) if not is_there and t.dim() > 0]
    if any(there) and here and function not in MIXING:
        raise RuntimeError(f"{function}: expected all tensors to be on the same device, found two")
    asked = kwargs.get("device")
    goes_there = any(there) if asked is None else torch.device(asked).type == NAME
    if asked is not None:
        kwargs = {**kwargs, "device": "cpu"}
    inner = tree_map(lambda t: t.inner if isinstance(t, There) else t, (args, kwargs))
    found = function(*inner[0], **inner[1])
    if function._schema.name.endswith("_"):  # in place
        return args[0]
    if goes_there:
        return tree_map(lambda t: There(t) if isinstance(t, torch.Tensor) else t, found)
    return found
