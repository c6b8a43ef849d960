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
def peak_bytes(model: nn.Module, x: Tensor, stored: Iterable[Tensor], n: int) -> int | None:
    """Bytes of the stored tensors, a batch of n, and all that lives between layers when that is most.

    Each tensor grows by the same with every further example, so that batches of 2 and 3 say what n of them need, and
    no large batch is computed. Workspaces inside of one operation, such as a convolution's, are not seen, nor what the
    allocator keeps in reserve.

    Args:
        model: in eval mode, on the CPU.
        x: three examples or more, [3, …].
        stored: the network's own tensors, such as parameters, masks, and the indices of sparse rows.
        n: examples at once.

    Returns:
        None if the model does other operations on 2 examples than on 3.
    """
    own = list(stored)
    model(x[:2])  # what is only made once is there from now on
    two, three = (_live(model, x[:k], own) for k in (2, 3))
    if len(two) != len(three):
        return None
    most = max((a + (n - 2) * (b - a) for a, b in zip(two, three, strict=True)), default=0)
    return sum(map(_size, own)) + n * _size(x[0]) + most


def _live(model: nn.Module, x: Tensor, known: Iterable[Tensor]) -> list[int]:
    """Bytes that live after each operation, but for the known tensors and x."""
    with _Live([x, *known]) as live:
        model(x)
    return live.history


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class _Live(TorchDispatchMode):
    """Counts the bytes of storages as operations make them and as they are freed."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here; True, torch's default, would import the compiler, which takes seconds."""
        return False

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.now, self.history = 0, list[int]()

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
            self.history.append(self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self.sizes.pop(key)
