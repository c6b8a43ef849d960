"""Following channels through a network: each element of each tensor is labelled with the channel that it comes from.

The network runs once. Operations that only move elements are run on the labels too; operations on single elements keep
labels and merge those of their operands; layers read labels along one dimension and write new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunelab.compaction import recurrent_units
from prunelab.compaction.links import INPUT, NONE, Links, along, varies
from prunelab.compaction.layer_weights import LAYERS
from prunelab.compaction.probes import Inputs, run, tensors

MOVES = frozenset(
    "view reshape flatten unflatten ravel transpose permute t T mT movedim moveaxis swapaxes swapdims adjoint squeeze "
    "unsqueeze expand expand_as view_as reshape_as repeat tile repeat_interleave cat concat concatenate stack hstack "
    "vstack dstack chunk split tensor_split hsplit vsplit dsplit split_with_sizes unbind select narrow getitem "
    "index_select take_along_dim gather flip fliplr flipud roll rot90 unfold diagonal pixel_shuffle "
    "pixel_unshuffle channel_shuffle contiguous clone detach data real".split()
)
REDUCES = frozenset(
    "mean sum amax amin max min std var std_mean var_mean norm vector_norm prod logsumexp median argmax argmin all any "
    "nanmean nansum".split()
)
ALONG = {  # operations that keep the shape but combine elements along a dimension
    "softmax": "normalizes over them",
    "log_softmax": "normalizes over them",
    "softmin": "normalizes over them",
    "gumbel_softmax": "normalizes over them",
    "layer_norm": "normalizes over all channels",
    "rms_norm": "normalizes over all channels",
    "local_response_norm": "normalizes over neighbouring channels",
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "sort", "argsort", "topk"), "combines them with one another"),
}
FRESH = frozenset(
    "new_zeros new_ones new_full new_empty new_tensor zeros_like ones_like full_like empty_like rand_like "
    "randn_like".split()
)
PRODUCTS = frozenset("matmul rmatmul mm bmm einsum baddbmm addmm tensordot scaled_dot_product_attention".split())
CONVS = frozenset(f"conv{'_transpose' * t}{n}d" for n in (1, 2, 3) for t in (0, 1))
NORMS = ("batch_norm", "instance_norm", "group_norm")
OPAQUE = (nn.MultiheadAttention, nn.RNNBase)
FAILS = (RuntimeError, ValueError, TypeError, LookupError, NotImplementedError)


def trace(model: nn.Module, inputs: Inputs) -> Links:
    """Run a network, in eval mode, and return which indices of its tensors can only be cut together."""
    mode = Trace(model)
    hooks = [hook for name, module in model.named_modules() for hook in mode.watch(name, module)]
    try:
        with torch.no_grad():
            mode.give(inputs)
            with mode:
                output = run(model, mode.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for tensor in tensors(output):
        mode.fix(tensor, "they are the network's output")
    return mode.links


class Trace(TorchFunctionMode):
    """Follows the operations of a network while it is entered."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.links = Links()
        stored = [*model.named_buffers(remove_duplicate=False), *model.named_parameters(remove_duplicate=False)]
        kept = model.state_dict(keep_vars=True)
        self.names = {id(value): name for name, value in reversed(stored) if name in kept}
        self.layers = {id(module.weight) for module in model.modules() if isinstance(module, LAYERS)}
        self.marks: dict[int, Tensor] = {}
        self.alive: list[Any] = []  # so that no id is used twice
        self.path: list[tuple[str, nn.Module]] = [("the network", model)]
        self.opaque = 0
        self.inputs: Inputs = ()

    def give(self, inputs: Inputs) -> None:
        copies = [x.clone() for x in tensors(inputs)]
        for x in copies:
            self.put(x, torch.full((1,) * x.dim(), INPUT).expand(x.shape))
        self.inputs = _like(inputs, iter(copies))

    def watch(self, name: str, module: nn.Module) -> Iterator[Any]:
        opaque = isinstance(module, OPAQUE)

        def enter(module: nn.Module, inputs: Any) -> None:
            self.path.append((name or "the network", module))
            self.opaque += opaque

        def leave(module: nn.Module, inputs: Any, keywords: dict[str, Any], output: Any) -> None:
            self.opaque -= opaque
            if opaque and not self.opaque:
                self._whole(module, [*inputs, *keywords.values()], output)
            self.path.pop()

        yield module.register_forward_pre_hook(enter, prepend=True)
        yield module.register_forward_hook(leave, with_kwargs=True)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if name == "get":  # of a property, such as x.T
            name = getattr(getattr(func, "__self__", None), "__name__", "get")
        if not self.opaque and name not in FRESH and (name == "setitem" or tensors(result)):
            try:
                self._follow(name, func, args, kwargs or {}, result)
            except FAILS:
                self._stop(name, args, kwargs or {})
        return result

    def put(self, tensor: Tensor, labels: Tensor) -> None:
        self.marks[id(tensor)] = labels
        self.alive.append(tensor)

    def label(self, tensor: Any) -> Tensor | None:
        if not isinstance(tensor, Tensor):
            return None
        wide = [dim for dim, size in enumerate(tensor.shape) if size > 1]
        if id(tensor) not in self.marks and id(tensor) in self.names and len(wide) == 1:
            self.put(tensor, along(self.stored(tensor, wide[0]), wide[0], tensor.shape))
        return self.marks.get(id(tensor))

    def stored(self, tensor: Tensor, dim: int, count: int | None = None) -> Tensor:
        return self.links.labels((self.names[id(tensor)], dim), count or tensor.shape[dim])

    def fix(self, tensor: Any, why: str) -> None:
        labels = self.label(tensor)
        if labels is not None:
            self.links.fix(labels, why)

    @property
    def place(self) -> str:
        """The module that runs, with its class."""
        name, module = self.path[-1]
        return f"{name} ({type(module).__name__})"

    def _stop(self, name: str, args: Any, kwargs: dict[str, Any], does: str | None = None) -> None:
        """Say that no channel of the operands can be cut."""
        why = f"{self.place} {does or f'combines them (`{name}`)'}"
        for tensor in tensors([*args, *kwargs.values()]):
            self.fix(tensor, why)

    def _follow(self, name: str, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], result: Any) -> None:
        if name == "linear" or name in CONVS:
            self._layer(name, _bound(args, kwargs, "input weight bias"), _option(args, kwargs, 6, "groups", 1), result)
        elif name in MOVES:
            self._move(func, args, kwargs, result)
        elif name == "setitem":
            self._assign(*args)
        elif name == "embedding":
            _, weight = _bound(args, kwargs, "input weight")
            if id(weight) in self.names:
                self.put(result, along(self.stored(weight, 1), result.dim() - 1, result.shape))
        elif name in NORMS or name == "prelu":
            self._norm(name, args, kwargs, result)
        elif name in ALONG or name in REDUCES:
            self._combine_along(name, args, kwargs, result)
        elif name == "glu":
            labels, dim = self.label(args[0]), _option(args, kwargs, 1, "dim", -1)
            if labels is not None:
                left, right = labels.chunk(2, dim)
                self.links.merge(left, right)
                self.put(result, left)
        elif name in PRODUCTS:
            self._stop(name, args, kwargs, "multiplies them with one another")
        else:
            self._elements(name, args, kwargs, result)

    def _layer(self, name: str, operands: Sequence[Any], groups: int, output: Tensor) -> None:
        x, weight, bias = operands
        transposed, dim = int("transpose" in name), -1 if name == "linear" else 1 - weight.dim()
        if id(weight) not in self.names or id(weight) not in self.layers:
            self._stop(name, [x], {}, "reads them with a tensor that is not the stored weight of a layer")
            return
        read = self.stored(weight, 1 - transposed, x.shape[dim])
        write = self.stored(weight, transposed, output.shape[dim])
        labels = self.label(x)
        if labels is not None:
            self.links.merge(labels, along(read, dim, x.shape))
        if id(bias) in self.names:
            self.links.merge(self.stored(bias, 0), write)
        elif isinstance(bias, Tensor):
            self.links.fix(write, "their bias is computed")
        if groups == len(read) > 1:
            self.links.merge(read.repeat_interleave(len(write) // len(read)), write)
        self.put(output, along(write, dim, output.shape))

    def _move(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], result: Any) -> None:
        given = tensors(args[0])
        labels = [self.label(x) for x in given]
        if all(found is None for found in labels):
            return
        every = (torch.full(x.shape, NONE) if y is None else y.detach() for x, y in zip(given, labels, strict=True))
        moved = func(_like(args[0], every), *args[1:], **kwargs)
        for tensor, found in zip(tensors(result), tensors(moved), strict=True):
            self.put(tensor, found)

    def _assign(self, x: Tensor, index: Any, value: Any) -> None:
        labels, given = self.label(x), self.label(value)
        if labels is not None or given is not None:
            labels = torch.full(x.shape, NONE) if labels is None else labels.clone()
            labels[index] = NONE if given is None else given
            self.put(x, labels)

    def _norm(self, name: str, args: Any, kwargs: dict[str, Any], output: Tensor) -> None:
        x, labels = args[0], self.label(args[0])
        if labels is None:
            return
        where, module = self.path[-1]
        for vector in tensors([*args[1:], *kwargs.values()]):
            if vector.numel() > 1:
                self.links.merge(labels, along(self.stored(vector, 0), 1, x.shape))
        if name in NORMS and not any(True for _ in module.buffers()) and not any(True for _ in module.parameters()):
            size = "num_channels" if name == "group_norm" else "num_features"  # it has no tensor that tells its width
            self.links.merge(labels, along(self.links.labels((f"{where}.{size}", 0), x.shape[1]), 1, x.shape))
        if name == "group_norm" and not isinstance(module, nn.GroupNorm):
            self._stop(name, [x], {}, "normalizes over groups of channels")
        self.put(output, labels)

    def _combine_along(self, name: str, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        x, labels, first = args[0], self.label(args[0]), tensors(result)[0]
        if labels is None or len(tensors(args[:2])) > 1:
            self._elements(name, args, kwargs, result)  # torch.max(x, y)
            return
        option = _option(args, kwargs, 2 if "norm" in name else 1, "dim", None)
        if name in ("layer_norm", "rms_norm"):
            option = range(-len(args[1]), 0)
        elif name == "local_response_norm":
            option = 1
        dims = range(x.dim()) if option is None else [option] if isinstance(option, int) else option
        dims = sorted({dim % x.dim() for dim in dims})
        if set(varies(labels)) & set(dims):
            self._stop(name, [x], {}, ALONG.get(name))
        elif name in ALONG:
            self.put(first, labels)
        elif first.dim():
            self.put(first, labels.amax(dims, keepdim=first.dim() == x.dim()))

    def _elements(self, name: str, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        """An operation on single elements; or one, such as pooling, that keeps the channels' dimension."""
        given = tensors([*args, *kwargs.values()])
        labels = [found for x in given if (found := self.label(x)) is not None]
        output = tensors(result)[0]
        if not labels:
            return
        if all(_fits(found.shape, output.shape) for found in labels):
            whole = labels[0].expand(output.shape)
            for other in labels[1:]:
                self.links.merge(whole, other)
                whole = torch.where(whole == NONE, other, whole) if bool((whole == NONE).any()) else whole
            for x in given:  # a parameter with several dimensions, such as one per channel and position
                if id(x) in self.names and self.label(x) is None and _fits(x.shape, output.shape):
                    for dim in varies(whole):
                        own = dim - output.dim() + x.dim()
                        if own >= 0 and x.shape[own] > 1:
                            self.links.merge(whole, along(self.stored(x, own), dim, output.shape))
            self.put(output, whole)
        elif len(labels) == 1 and (carried := _carried(labels[0], output.shape)) is not None:
            self.put(output, carried)
        else:
            self._stop(name, args, kwargs)

    def _whole(self, module: nn.Module, inputs: Iterable[Any], output: Any) -> None:
        """A module that is not followed inside: attention, or a recurrent layer."""
        stored = all(id(x) in self.names for _, x in module.named_parameters(recurse=False))
        if isinstance(module, nn.RNNBase) and stored:
            recurrent_units.label(self, module, list(inputs), output)
        else:
            self._stop("", list(inputs), {}, "projects them to its heads")


def _bound(args: Any, kwargs: dict[str, Any], names: str) -> list[Any]:
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names.split())]


def _option(args: Any, kwargs: dict[str, Any], place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _fits(shape: torch.Size, whole: torch.Size) -> bool:
    own = len(whole) - len(shape)
    return own >= 0 and all(a in (1, b) for a, b in zip(shape, whole[own:], strict=True))


def _carried(labels: Tensor, shape: torch.Size) -> Tensor | None:
    """Labels of an output whose channels are those of its only operand; None if that is not clear."""
    dims = varies(labels)
    core = labels
    for dim in range(labels.dim()):
        core = core if dim in dims else core.narrow(dim, 0, min(1, core.shape[dim]))
    if len(shape) == labels.dim() and all(labels.shape[dim] == shape[dim] for dim in dims):
        return core.expand(shape)
    if dims in ([], [labels.dim() - 1]) and shape and (not dims or shape[-1] == labels.shape[-1]):
        return core.reshape(-1).expand(shape)
    return None


def _like(shape: Any, values: Iterator[Tensor]) -> Any:
    """The same structure with other tensors in it."""
    if isinstance(shape, Tensor):
        return next(values)
    if isinstance(shape, dict):
        return {key: _like(value, values) for key, value in shape.items()}
    return [_like(value, values) for value in shape] if isinstance(shape, (list, tuple)) else shape
