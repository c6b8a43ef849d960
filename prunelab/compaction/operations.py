"""What the operations of a network do with channels, by torch's names of functions, and their arguments."""

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

MOVES = re.compile(
    "view|reshape|flatten|unflatten|ravel|transpose|permute|t|T|mT|movedim|moveaxis|swapaxes|swapdims|adjoint|squeeze|"
    "unsqueeze|expand|expand_as|view_as|reshape_as|repeat|tile|repeat_interleave|cat|concat|concatenate|stack|"
    "[hvd]stack|chunk|split|tensor_split|[hvd]split|split_with_sizes|unbind|select|narrow|getitem|index_select|"
    "take_along_dim|gather|flip|fliplr|flipud|roll|rot90|unfold|diagonal|pixel_shuffle|pixel_unshuffle|"
    "channel_shuffle|contiguous|clone|detach|data|real"
)
JOINS = re.compile("cat|concat|concatenate|stack")
REDUCES = re.compile(
    "mean|sum|amax|amin|max|min|std|var|std_mean|var_mean|norm|vector_norm|prod|logsumexp|median|argmax|argmin|all|"
    "any|nanmean|nansum"
)
ALONG = {  # operations that keep the shape but combine elements along a dimension
    **dict.fromkeys(("softmax", "log_softmax", "softmin", "gumbel_softmax"), "normalizes over them"),
    **dict.fromkeys(("layer_norm", "rms_norm"), "normalizes over all channels"),
    "local_response_norm": "normalizes over neighbouring channels",
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "sort", "argsort", "topk"), "combines them with one another"),
}
FRESH = re.compile("new_(zeros|ones|full|empty|tensor)|(zeros|ones|full|empty|rand|randn)_like")
PRODUCTS = re.compile("r?matmul|mm|bmm|einsum|baddbmm|addmm|tensordot|scaled_dot_product_attention")
LAYER = re.compile("linear|conv(_transpose)?[123]d")
NORM = re.compile("(batch|instance|group)_norm")


def bound(args: Any, kwargs: dict[str, Any], *names: str) -> list[Any]:
    """Return the first arguments of a call; None for those that are not given."""
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names)]


def option(args: Any, kwargs: dict[str, Any], place: int, name: str, default: Any = None) -> Any:
    """Return an argument of a call that may be given by its place or by its name."""
    return args[place] if len(args) > place else kwargs.get(name, default)


def combined_dims(name: str, args: Any, kwargs: dict[str, Any]) -> list[int]:
    """Return the dimensions along which a reduction, or an operation of `ALONG`, combines its first operand."""
    count = args[0].dim()
    dims = option(args, kwargs, 2 if name in ("norm", "vector_norm") else 1, "dim")
    if name in ("layer_norm", "rms_norm"):
        dims = range(-len(args[1]), 0)
    elif name == "local_response_norm":
        dims = 1
    elif name in ("sort", "argsort", "topk", "cummax") and dims is None:
        dims = -1
    dims = range(count) if dims is None else [dims] if isinstance(dims, int) else dims
    return sorted({dim % count for dim in dims})


def fits(shape: torch.Size, whole: torch.Size) -> bool:
    """Return whether a shape broadcasts to another one."""
    own = len(whole) - len(shape)
    return own >= 0 and all(a in (1, b) for a, b in zip(shape, whole[own:], strict=True))


def carried(labels: Tensor, dims: list[int], shape: torch.Size) -> Tensor | None:
    """Return the labels of an output whose channels are those of its only operand; None if that is not clear.

    Args:
        dims: the dimensions along which the operand's labels vary.
        shape: of the output.
    """
    core = labels
    for dim in range(labels.dim()):
        core = core if dim in dims else core.narrow(dim, 0, min(1, core.shape[dim]))
    if len(shape) == labels.dim() and all(labels.shape[dim] == shape[dim] for dim in dims):
        return core.expand(shape)
    if dims in ([], [labels.dim() - 1]) and shape and (not dims or shape[-1] == labels.shape[-1]):
        return core.reshape(-1).expand(shape)
    return None


def replaced(structure: Any, values: Iterator[Tensor]) -> Any:
    """Return a tensor, or a list of such, with other tensors in their places."""
    return next(values) if isinstance(structure, Tensor) else [next(values) for _ in structure]
