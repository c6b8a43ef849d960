"""The memory that a network's tensors need at the worst moment of a forward pass."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prunelab.costs.stored_tensors import distinct


@torch.no_grad()
def peak_bytes(model: nn.Module, x: Tensor, stored: Iterable[Tensor], n: int) -> int | None:
    """Return the most bytes that live at once in a forward pass of n examples: stored tensors, inputs, activations.

    Batches of 2 and of 3 examples are run, and the activations are extrapolated to n, since each of them grows by the
    same number of bytes with every example. Not counted: buffers inside one operation, such as a convolution's
    workspace, and memory that the allocator holds in reserve.

    Args:
        model: in eval mode.
        x: at least three examples, [3, …].
        stored: the network's own tensors, such as parameters, buffers and the indices of sparse rows.
        n: the batch size.

    Returns:
        Bytes; None if the model runs other operations on 2 examples than on 3.
    """
    own = distinct(stored)
    model(x[:2])  # whatever is made only once exists from now on
    two, three = (live_bytes(model, x[:k], own) for k in (2, 3))
    if len(two) != len(three):
        return None
    most = max((a + (n - 2) * (b - a) for a, b in zip(two, three, strict=True)), default=0)
    return sum(tensor.nbytes for tensor in own) + n * x[0].nbytes + most


def live_bytes(model: nn.Module, x: Tensor, known: Iterable[Tensor]) -> list[int]:
    """Return the bytes that live after each allocation of a forward pass, without the known tensors and x."""
    with _Live([x, *known]) as live:
        model(x)
    return live.history


class _Live(TorchDispatchMode):
    """Adds up the bytes of storages as operations allocate them and as they are freed."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: nothing is compiled here, and torch's default, True, imports the compiler, which takes 1 s."""
        return False

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.now, self.history = 0, list[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(kind not in (Tensor, nn.Parameter) for kind in types):
            return NotImplemented  # a quantized tensor: it works with plain tensors, which come here again
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self._see(tensor.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage.data_ptr()
        if storage.nbytes() and key not in self.sizes and key not in self.known:
            self.sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.history.append(self.now)
            weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.now -= self.sizes.pop(key)
