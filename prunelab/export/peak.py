"""How much memory a network's tensors need at the worst moment of a forward pass."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@torch.no_grad()
def peak_bytes(model: nn.Module, x: Tensor, stored: Iterable[Tensor]) -> int:
    """Bytes of the stored tensors, the input, and all that lives between layers when that is most.

    Workspaces inside of one operation, such as a convolution's, are not seen, nor what the allocator keeps in reserve.

    Args:
        model: in eval mode, on the CPU.
        x: a batch, [n, …].
        stored: the network's own tensors, such as parameters, masks, and the indices of sparse rows.
    """
    model(x)  # what is only made once is there from now on
    own = [x, *stored]
    live = _Live(own)
    with live:
        model(x)
    return sum(tensor.numel() * tensor.element_size() for tensor in own) + live.peak


class _Live(TorchDispatchMode):
    """Counts the bytes of storages as operations make them and as they are freed."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(kind not in (Tensor, nn.Parameter) for kind in types):
            return NotImplemented  # a quantised tensor: it does the work with plain ones, which come here again
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self._see(tensor.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.sizes and key not in self.known:
            self.sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self.sizes.pop(key)
