"""Reconstruction: after a pruning, update the weights that stay so that each layer's outputs change least."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunelab.errors import ConfigError
from prunelab.pruning.criteria.base import Evidence, exact, unfused_attention
from prunelab.pruning.granularity.channel import Channel
from prunelab.pruning.rules import Group
from prunelab.pruning.units import Granularity

Conv = nn.modules.conv._ConvNd
Layers = dict[int, list[nn.Module]]  # the layers that have a prunable tensor as their weight, by its place in the list
See = Callable[[int, nn.Module, Tensor], object]  # (place, layer, input of a call)
EXAMPLES = 2048  # of calibration, at most
DAMPING = 0.01  # λ ÷ mean diagonal of H
AT_ONCE = 16  # examples of a convolution whose patches are in memory together


def check(reconstruct: str, groups: Iterable[Group], evidence: Evidence) -> None:
    """Raise ConfigError for another name than `obs`, or for units or layers that it cannot update; runs one example."""
    if reconstruct != "obs":
        raise ConfigError(f"reconstruct={reconstruct}: must be null or obs")
    names = set[str]()
    for group in groups:
        check_units(group.rule.granularity)
        names |= {item.name for item in group.items}
    there = zip(evidence.names, evidence.masks, strict=True)
    _in_order(evidence, layers_of(evidence, [name in names and bool(mask.any()) for name, mask in there]))


def check_units(granularity: Granularity) -> None:
    """Raise ConfigError for units whose removal leaves nothing in a row that could be updated."""
    if isinstance(granularity, Channel) and granularity.dim == 0:
        why = "reconstruct=obs updates the weights that stay in a row, and a removed output channel has none"
        raise ConfigError(f"granularity=channel: {why}; must be weight, kernel, block, or granularity.dim=1")


def obs(evidence: Evidence, before: Sequence[Tensor]) -> list[Tensor]:
    """Return the weights of a pruned model, updated layer by layer: of Linear and Conv1d, Conv2d, Conv3d, any groups.

    Criterion, granularity and allocation decide which weights go. This decides what those that stay become, and changes
    no mask. In the order in which the layers are called, each layer's H = (2/N) Σ x xᵀ is taken from its inputs x over
    N examples (all patches, for a convolution), as the layers before it, pruned and updated, now give them. Each row of
    the weight then takes the least-squares solution under its mask,

        min ½ (w − w')ᵀ (H + λI) (w − w')  over w' that are 0 where pruned,  λ = 0.01 · mean diagonal of H,

    which is what the OBS update δw = −(w_q ÷ [H⁻¹]_qq) H⁻¹_{:,q} leads to if the pruned weights of the row go one after
    the other, in any order. With `criterion=obs`, whose scores come from the same H, both halves of OBS are there, and
    `criterion.iterations` > 1 approaches OBC, which chooses a row's weights one at a time. No layer's squared output
    error on the calibration data is larger than without the update. Time: rows · inputs³ ÷ 3 at most; memory: inputs².

    Args:
        evidence: of the pruned model, with its masks and calibration data; updates its model, which is a copy.
        before: the weights before this pruning, a tensor for each prunable one.

    Raises:
        ConfigError: for a tensor that is not the weight of such a layer, or whose layers are never called.

    Source: Hassibi & Stork 1993, "Second order derivatives for network pruning: optimal brain surgeon"; Frantar &
    Alistarh 2022, "Optimal brain compression", arXiv 2208.11580; order of the layers and λ: Frantar & Alistarh 2023,
    "SparseGPT", arXiv 2301.00774.
    """
    lost = [bool((weight * ~mask).any()) for weight, mask in zip(before, evidence.masks, strict=True)]
    layers = layers_of(evidence, lost)
    for place in _in_order(evidence, layers):
        hessian = hessians(evidence, {place: layers[place]}, EXAMPLES)[place]
        evidence.weights[place].data.copy_(least_squares(before[place], evidence.masks[place], hessian))
    return [weight.detach() for weight in evidence.weights]


def layers_of(evidence: Evidence, wanted: Sequence[bool]) -> Layers:
    """Return the layers whose weights the wanted tensors are; ConfigError for any but Linear and Conv layers."""
    found = Layers()
    for place in (place for place, is_wanted in enumerate(wanted) if is_wanted):
        for module in evidence.model.modules():
            for key, parameter in module.named_parameters(recurse=False):
                if parameter is evidence.weights[place]:
                    _check_layer(evidence.names[place], module, key)
                    found.setdefault(place, []).append(module)
    return found


def hessians(evidence: Evidence, layers: Layers, examples: int) -> dict[int, Tensor]:
    """Return H + λI of each tensor, [groups, inputs, inputs] in float64, from all calls of its layers.

    Raises:
        ConfigError: for a tensor whose layers are never called, or whose inputs are not finite.
    """
    totals, count = dict[int, Tensor](), 0

    def add(place: int, module: nn.Module, x: Tensor) -> None:
        for part in x.split(AT_ONCE) if isinstance(module, Conv) else [x]:
            rows = inputs(module, exact(part))
            product = rows.mT @ rows
            totals[place] = totals[place].add_(product) if place in totals else product

    for size in _run(evidence, layers, examples, add):
        count += size
    for place, modules in layers.items():
        if place not in totals:
            raise _refused(evidence.names[place], modules[0])
        diagonal = totals[place].mul_(2 / count).diagonal(dim1=1, dim2=2)  # a view
        mean = diagonal.mean(1, keepdim=True)
        if not bool(mean.isfinite().all()):
            raise ConfigError(f"obs: the inputs of {evidence.names[place]} are NaN or infinite")
        diagonal += DAMPING * torch.where(mean > 0, mean, 1.0)
    return totals


def inputs(module: nn.Module, x: Tensor) -> Tensor:
    """Return what the rows of a layer's weight are multiplied by: [groups, positions, inputs of a row]."""
    if not isinstance(module, Conv):
        return x.reshape(1, -1, x.shape[-1])
    spatial = len(module.kernel_size)
    x = x.reshape(-1, *x.shape[-1 - spatial :])
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        pads = [(n // 2, n - n // 2) for n in total]
    else:
        pads = [(int(p), int(p)) for p in module.padding] if module.padding != "valid" else [(0, 0)] * spatial
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    if any(map(any, pads)):
        x = F.pad(x, [n for pair in reversed(pads) for n in pair], mode)
    for dim, (size, step, apart) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True), 2):
        x = x.unfold(dim, apart * (size - 1) + 1, step)[..., ::apart]  # [n, in, positions …, kernel …]
    x = x.unflatten(1, (module.groups, -1)).movedim(1, 0).movedim(2, 2 + spatial)
    return x.flatten(2 + spatial).flatten(1, -2)  # from [groups, n, positions …, in/groups, kernel …]


def least_squares(weight: Tensor, mask: Tensor, hessian: Tensor) -> Tensor:
    """Return w' that is 0 where pruned, and whose other weights minimise ½ (w − w')ᵀ H (w − w') in each row.

    Args:
        weight: w, [rows, …].
        mask: bool, of the weight's shape, False where pruned.
        hessian: H, [groups, inputs, inputs], positive definite; each group has equally many rows.
    """
    rows, kept = exact(weight).reshape(len(weight), -1).clone(), mask.reshape(len(weight), -1)
    gone = rows * ~kept
    rows -= gone
    for part, place, h, factor in rows_alike(kept, hessian):
        rows[part, place] += torch.cholesky_solve(h @ gone[part].T, factor).T
    return rows.view_as(weight).to(weight)


def rows_alike(kept: Tensor, hessian: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Yield (rows, k, H_{k,:}, L) for each run of rows with one mask and one H: L Lᵀ = H_{k,k}, k the kept inputs.

    Args:
        kept: bool [rows, inputs].
        hessian: [groups, inputs, inputs].
    """
    per = len(kept) // len(hessian)
    ends = [i for i in range(1, len(kept)) if i % per == 0 or not torch.equal(kept[i], kept[i - 1])]
    for start, end in pairwise([0, *ends, len(kept)]):
        place = kept[start].nonzero().flatten()
        if len(place):
            h = hessian[start // per][place]
            yield slice(start, end), place, h, torch.linalg.cholesky(h[:, place])


def _in_order(evidence: Evidence, layers: Layers) -> list[int]:
    """Return the places of the tensors in the order in which their layers are first called; ConfigError: never."""
    order = dict[int, None]()
    for _ in _run(evidence, layers, 1, lambda place, module, x: order.setdefault(place)):
        pass
    for place in layers.keys() - order:
        raise _refused(evidence.names[place], layers[place][0])
    return list(order)


def _run(evidence: Evidence, layers: Layers, examples: int, see: See) -> Iterator[int]:
    """Run the model on each batch; call `see` before each call of a layer; yield the sizes of the batches."""

    def watch(place: int, layer: nn.Module) -> RemovableHandle:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            see(place, module, args[0] if args else kwargs["input"])

        return layer.register_forward_pre_hook(hook, with_kwargs=True)

    with ExitStack() as hooks, torch.no_grad(), unfused_attention():
        for place, found in layers.items():
            for layer in found:
                hooks.enter_context(watch(place, layer))
        for batch, _ in evidence.batches(examples):
            evidence.model(batch)
            yield len(batch)


def _check_layer(name: str, module: nn.Module, key: str) -> None:
    transposed = isinstance(module, Conv) and module.transposed
    if not isinstance(module, (nn.Linear, Conv)) or transposed or key != "weight":
        raise _refused(name, module)


def _refused(name: str, module: nn.Module) -> ConfigError:
    why = f"{name} of {type(module).__name__} is not the weight of a Linear or Conv layer that is called"
    return ConfigError(f"obs: {why}; leave it out by prune.exclude=[{name}]")
