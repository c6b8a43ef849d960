"""Following channels through a network: each element of each tensor is labelled with the channel that it comes from.

The network runs once. An operation that only moves elements is applied to the labels too; an elementwise one merges
those of its operands. A layer reads the labels along one dimension of its input; its output gets new ones.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunelab.compaction import operations, recurrent_units
from prunelab.compaction.channel_groups import INPUT, NONE, Links, along
from prunelab.compaction.layer_weights import LAYERS
from prunelab.compaction.operations import ALONG, bound, carried, fits, option, replaced
from prunelab.compaction.probes import Inputs, run, tensors, with_tensors

OPAQUE = (nn.MultiheadAttention, nn.RNNBase)
FAILS = (RuntimeError, ValueError, TypeError, LookupError)


def trace(model: nn.Module, inputs: Inputs) -> Links:
    """Run a network, in eval mode, and return which indices of its tensors can only be cut together."""
    mode = Trace(model)
    copies = with_tensors(torch.clone, inputs)
    for x in tensors(copies):
        mode.put(x, torch.full((1,) * x.dim(), INPUT).expand(x.shape))
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            mode.watch(hooks, name, module)
        with torch.no_grad(), mode:
            output = run(model, copies, copy=False)
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
        self._names = {id(value): name for name, value in reversed(stored) if name in kept}
        self._weights = {id(module.weight) for module in model.modules() if isinstance(module, LAYERS)}
        self._labels: dict[int, Tensor] = {}
        self._alive: list[Any] = []  # so that no id is used twice
        self._path: list[tuple[str, nn.Module]] = [("the network", model)]
        self._inside = 0  # of how many modules that are not followed

    @property
    def place(self) -> str:
        """The module that runs, with its class."""
        name, module = self._path[-1]
        return f"{name} ({type(module).__name__})"

    def put(self, tensor: Tensor, labels: Tensor) -> None:
        """Label a tensor; the labels have its shape."""
        self._labels[id(tensor)] = labels
        self._alive.append(tensor)

    def label(self, tensor: Any) -> Tensor | None:
        """Return the labels of a tensor; vectors that the model stores are labelled when they are first met."""
        if not isinstance(tensor, Tensor):
            return None
        wide = [dim for dim, size in enumerate(tensor.shape) if size > 1]
        if id(tensor) not in self._labels and id(tensor) in self._names and len(wide) == 1:
            self.put(tensor, along(self.stored(tensor, wide[0]), wide[0], tensor.shape))
        return self._labels.get(id(tensor))

    def stored(self, tensor: Tensor, dim: int, count: int | None = None) -> Tensor:
        """Return the labels of the indices of a tensor that the model stores, [size of the dimension]."""
        return self.links.labels((self._names[id(tensor)], dim), count or tensor.shape[dim])

    def fix(self, tensor: Any, why: str) -> None:
        """Say why the channels of a tensor cannot be cut."""
        if (labels := self.label(tensor)) is not None:
            self.links.fix(labels, why)

    def watch(self, hooks: ExitStack, name: str, module: nn.Module) -> None:
        """Keep track of the module that runs."""
        opaque = isinstance(module, OPAQUE)

        def enter(module: nn.Module, inputs: Any) -> None:
            self._path.append((name or "the network", module))
            self._inside += opaque

        def leave(module: nn.Module, inputs: Any, keywords: dict[str, Any], output: Any) -> None:
            self._inside -= opaque
            if opaque and not self._inside:
                self._whole(module, [*inputs, *keywords.values()], output)
            self._path.pop()

        hooks.enter_context(module.register_forward_pre_hook(enter, prepend=True))
        hooks.enter_context(module.register_forward_hook(leave, with_kwargs=True))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        if name == "get":  # of a property, such as x.T
            name = getattr(getattr(func, "__self__", None), "__name__", "get")
        if self._inside or operations.FRESH.fullmatch(name) or not (name == "setitem" or tensors(result)):
            return result
        try:
            self._follow(name, func, args, kwargs or {}, result)
        except FAILS:  # a form of the operation that is not known
            self._stop(name, args, kwargs or {})
        return result

    def _stop(self, name: str, args: Iterable[Any], kwargs: dict[str, Any], does: str | None = None) -> None:
        why = f"{self.place} {does or f'combines them (`{name}`)'}"
        for tensor in tensors([*args, *kwargs.values()]):
            self.fix(tensor, why)

    def _follow(self, name: str, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], result: Any) -> None:
        if operations.LAYER.fullmatch(name):
            self._layer(name, args, kwargs, result)
        elif operations.MOVES.fullmatch(name):
            self._move(func, args, kwargs, result)
            if operations.JOINS.fullmatch(name):
                self._join([self.label(x) for x in args[0]], option(args, kwargs, 1, "dim", 0), name == "stack")
        elif name == "setitem":
            self._assign(*args)
        elif name == "embedding":
            self.put(result, along(self.stored(bound(args, kwargs, "input", "weight")[1], 1), -1, result.shape))
        elif operations.NORM.fullmatch(name) or name == "prelu":
            self._norm(name, args, kwargs, result)
        elif name in ALONG or operations.REDUCES.fullmatch(name):
            self._combine_along(name, args, kwargs, result)
        elif name == "glu" and (labels := self.label(args[0])) is not None:
            left, right = labels.chunk(2, option(args, kwargs, 1, "dim", -1))
            self.links.merge(left, right)
            self.put(result, left)
        elif operations.PRODUCTS.fullmatch(name):
            one = sum(self.label(x) is not None for x in tensors([*args, *kwargs.values()])) == 1
            self._stop(name, args, kwargs, f"multiplies them {'by another tensor' if one else 'with one another'}")
        else:
            self._elements(name, args, kwargs, result)

    def _layer(self, name: str, args: Any, kwargs: dict[str, Any], output: Tensor) -> None:
        x, weight, bias = bound(args, kwargs, "input", "weight", "bias")
        transposed, dim = int("transpose" in name), -1 if name == "linear" else 1 - weight.dim()
        if id(weight) not in self._names or id(weight) not in self._weights:
            self._stop(name, [x], {}, "reads them with a tensor that is not the stored weight of a layer")
            return
        read = self.stored(weight, 1 - transposed, x.shape[dim])
        write = self.stored(weight, transposed, output.shape[dim])
        if (labels := self.label(x)) is not None:
            self.links.merge(labels, along(read, dim, x.shape))
        if id(bias) in self._names:
            self.links.merge(self.stored(bias, 0), write)
        elif isinstance(bias, Tensor):
            self.links.fix(write, f"the bias of {self.place} is computed")
        if option(args, kwargs, 6, "groups", 1) == len(read) > 1:
            self.links.merge(read.repeat_interleave(len(write) // len(read)), write)
        self.put(output, along(write, dim, output.shape))

    def _move(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any], result: Any) -> None:
        given = tensors(args[0])
        labels = [self.label(x) for x in given]
        if all(found is None for found in labels):
            return
        every = (torch.full(x.shape, NONE) if y is None else y.detach() for x, y in zip(given, labels, strict=True))
        moved = func(replaced(args[0], every), *args[1:], **kwargs)
        for tensor, found in zip(tensors(result), tensors(moved), strict=True):
            self.put(tensor, found)

    def _join(self, parts: list[Tensor | None], dim: int, new: bool) -> None:
        """Merge the channels of tensors that are put side by side along another dimension."""
        labels = [part for part in parts if part is not None]
        for part in labels[1:]:
            if new or dim % part.dim() not in (*self.links.varies(part), *self.links.varies(labels[0])):
                one, other = (x if new else x.narrow(dim, 0, 1) for x in (labels[0], part))
                self.links.merge(one, other)

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
        path, module = self._path[-1]
        vectors = [vector for vector in tensors([*args[1:], *kwargs.values()]) if vector.numel() > 1]
        own = [self.stored(vector, 0) for vector in vectors]
        if not vectors and name != "prelu":  # no tensor tells its width
            size = "num_channels" if name == "group_norm" else "num_features"
            own = [self.links.labels((f"{path}.{size}", 0), x.shape[1])] if hasattr(module, size) else []
        for numbers in own:
            self.links.merge(labels, along(numbers, 1, x.shape))
        if name == "group_norm" and not isinstance(module, nn.GroupNorm):
            self._stop(name, [x], {}, "normalizes over groups of channels")
        self.put(output, labels)

    def _combine_along(self, name: str, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        x, labels, first = args[0], self.label(args[0]), tensors(result)[0]
        if labels is None or len(tensors(args[:2])) > 1:  # torch.max(x, y)
            self._elements(name, args, kwargs, result)
            return
        dims = operations.combined_dims(name, args, kwargs)
        if set(self.links.varies(labels)) & set(dims):
            self._stop(name, [x], {}, ALONG.get(name))
        elif name in ALONG:
            self.put(first, labels)
        elif first.dim():
            self.put(first, labels.amax(dims, keepdim=first.dim() == x.dim()))

    def _elements(self, name: str, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        """An operation on single elements; or one, such as pooling, that keeps the channels' dimension."""
        given, output = tensors([*args, *kwargs.values()]), tensors(result)[0]
        labels = [found for x in given if (found := self.label(x)) is not None]
        if labels and all(fits(found.shape, output.shape) for found in labels):
            whole = labels[0].expand(output.shape)
            for other in labels[1:]:
                self.links.merge(whole, other)
                whole = torch.where(whole == NONE, other, whole) if bool((whole == NONE).any()) else whole
            for x in given:  # a parameter with several dimensions, such as one per channel and position
                if id(x) in self._names and self.label(x) is None and fits(x.shape, output.shape):
                    self._spread(x, whole)
            self.put(output, whole)
        elif len(labels) == 1 and (moved := carried(labels[0], self.links.varies(labels[0]), output.shape)) is not None:
            self.put(output, moved)
        elif labels:
            self._stop(name, args, kwargs)

    def _spread(self, parameter: Tensor, labels: Tensor) -> None:
        for dim in self.links.varies(labels):
            own = dim - labels.dim() + parameter.dim()
            if own >= 0 and parameter.shape[own] > 1:
                self.links.merge(labels, along(self.stored(parameter, own), dim, labels.shape))

    def _whole(self, module: nn.Module, inputs: list[Any], output: Any) -> None:
        """A module that is not followed inside: attention, or a recurrent layer."""
        stored = all(id(x) in self._names for _, x in module.named_parameters(recurse=False))
        if isinstance(module, nn.RNNBase) and stored:
            recurrent_units.label(self, module, inputs, output)
        else:
            self._stop("", inputs, {}, "projects them to its heads")
