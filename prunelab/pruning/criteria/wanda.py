"""Wanda: the absolute value of a weight times the norm of its inputs."""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from prunelab.errors import ConfigError
from prunelab.pruning.criteria.base import Evidence, exact, unfused_attention

Call = dict[str, Any]  # of a module's forward: its arguments by name
Reader = Callable[[Any, Call, Any], Tensor]  # (module, call, output) → Σ x², of a shape that broadcasts to the weight's


class Place(NamedTuple):
    """A use of a parameter: the module whose calls show its inputs, and the function that reads them; None: unknown."""

    name: str
    parameter: nn.Parameter
    module: nn.Module
    reader: Reader | None


def wanda(evidence: Evidence, *, examples: int = 1024) -> list[Tensor]:
    """Score a weight by |W_ij| · ‖X_j‖₂, X_j the j-th input feature over all examples and positions.

    Defined for Linear and Conv (grouped and transposed too), whose features are the input channels; for the projections
    of MultiheadAttention; and for the input and recurrent weights of LSTM, GRU and RNN, where X are the inputs and the
    states before each step. The paper ranks within each output row: `allocation=row`.

    Use it with `allocation=row` for large Linear layers that cannot be fine-tuned, or if the inputs of a layer
    differ much in size.

    Args:
        examples: whole number ≥ 1 of training examples; the paper takes 128 sequences.

    Raises:
        ConfigError: if `examples` is out of range, or for a tensor whose inputs are unknown, such as a bias.

    Source: Sun et al. 2024, "A simple and effective pruning approach for large language models", eq. 1,
    arXiv 2306.11695.
    """
    used = [[place for place in _places(evidence.model) if place.parameter is weight] for weight in evidence.weights]
    totals: dict[str, Tensor] = {}  # Σ x², by the names of the places
    with ExitStack() as hooks, torch.no_grad(), unfused_attention():
        for place in (place for places in used for place in places if place.reader is not None):
            hooks.enter_context(_watch(place, totals))
        for inputs, _ in evidence.batches(examples):
            evidence.model(inputs)
    if unseen := [place for places in used for place in places if place.name not in totals]:
        kinds = ", ".join(f"{place.name} of {type(place.module).__name__}" for place in unseen)
        hint = f"leave them out by prune.exclude=[{','.join(place.name for place in unseen)}]"
        raise ConfigError(f"wanda cannot see what these are multiplied by: {kinds}; {hint}")
    return [
        exact(weight).abs() * torch.stack([totals[place.name].expand(weight.shape) for place in places]).sum(0).sqrt()
        for weight, places in zip(evidence.weights, used, strict=True)
    ]


def _watch(place: Place, totals: dict[str, Tensor]) -> torch.utils.hooks.RemovableHandle:
    """Add to `totals[place.name]` at each call of the module."""
    signature = inspect.signature(place.module.forward)

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Call, output: Any) -> None:
        assert place.reader is not None
        squares = place.reader(module, signature.bind(*args, **kwargs).arguments, output)
        totals[place.name] = totals[place.name] + squares if place.name in totals else squares

    return place.module.register_forward_hook(hook, with_kwargs=True)


def _places(model: nn.Module) -> Iterator[Place]:
    """Yield every use of every parameter; a shared one has several."""
    for prefix, module in model.named_modules():
        parent = model.get_submodule(prefix.rpartition(".")[0])
        for key, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{key}".lstrip(".")
            if isinstance(parent, nn.MultiheadAttention) and module is parent.out_proj and key == "weight":
                yield Place(name, parameter, parent, _attended)  # out_proj itself is never called
            else:
                yield Place(name, parameter, module, _reader(module, key))


def _reader(module: nn.Module, key: str) -> Reader | None:
    if isinstance(module, nn.MultiheadAttention):
        return {"in_proj_weight": _projected, **_PROJECTIONS}.get(key)
    if isinstance(module, nn.RNNBase):
        return _of_recurrent(key)
    if key != "weight":
        return None
    if isinstance(module, nn.modules.conv._ConvNd):
        return _convolution
    return _linear if isinstance(module, nn.Linear) else None


def _of_recurrent(key: str) -> Reader | None:
    match = re.fullmatch(r"weight_(ih|hh)_l(\d+)(_reverse)?", key)  # the projections, weight_hr_l0, are not seen
    if not match:
        return None
    kind, layer, reverse = match[1], int(match[2]), bool(match[3])
    if kind == "hh":
        return _recurrent(layer, reverse)
    return _between(layer) if layer else _linear


def _squares(x: Tensor, dim: int = -1) -> Tensor:
    """Return Σ x² over all dimensions but one, [x.shape[dim]]."""
    return exact(x).square().movedim(dim, -1).reshape(-1, x.shape[dim]).sum(0)


def _linear(module: nn.Module, call: Call, output: Any) -> Tensor:
    """Return [in], from an input [..., in]. That of an RNN may be a PackedSequence, whose `data` is [steps, in]."""
    return _squares(call["input"].data)


def _convolution(module: nn.modules.conv._ConvNd, call: Call, output: Any) -> Tensor:
    """Return [out, in/groups, 1, …], or [in, 1, …] if transposed, from an input [n, in, …] or [in, …]."""
    spatial = len(module.kernel_size)
    squares = _squares(call["input"], -1 - spatial)
    if not module.transposed:  # each group of outputs sees its own inputs
        squares = squares.view(module.groups, -1).repeat_interleave(module.out_channels // module.groups, 0)
    else:
        squares = squares.view(-1, 1)
    return squares.view(*squares.shape, *(1,) * spatial)


def _recurrent(layer: int, reverse: bool) -> Reader:
    """Read [hidden]: the states before each step are the outputs but the last, and the initial state."""

    def read(module: nn.RNNBase, call: Call, output: Any) -> Tensor:
        outputs, state = _stack(module, call, output, layer + 1)
        final, start = _hidden(state), _hidden(call.get("hx"))
        assert final is not None
        size, row = final.shape[-1], layer * (1 + module.bidirectional) + reverse
        squares = _squares(outputs[..., reverse * size : (reverse + 1) * size]) - _squares(final[row])
        if start is not None:
            squares = squares + _squares(start[row])
        return squares.clamp(min=0)  # rounding may make the difference negative

    return read


def _between(layer: int) -> Reader:
    """Read [directions · hidden]: the inputs of a layer are the outputs of the layer below."""
    return lambda module, call, output: _squares(_stack(module, call, output, layer)[0])


def _stack(module: nn.RNNBase, call: Call, output: Any, layers: int) -> tuple[Tensor, Any]:
    """Return the outputs [..., directions · hidden] and the last state of the lowest layers, run on their own."""
    if layers < module.num_layers:
        hx, rows = call.get("hx"), layers * (1 + module.bidirectional)
        hx = tuple(h[:rows] for h in hx) if isinstance(hx, tuple) else hx if hx is None else hx[:rows]
        output = _lowest(module, layers)(call["input"], hx)
    return output[0].data, output[1]


def _lowest(module: nn.RNNBase, layers: int) -> nn.RNNBase:
    """Return an RNN of the lowest layers of another one, in eval mode, with its parameters."""
    kind = next(kind for kind in (nn.LSTM, nn.GRU, nn.RNN) if isinstance(module, kind))
    keys = ["bias", "batch_first", "bidirectional"]
    keys += {nn.LSTM: ["proj_size"], nn.RNN: ["nonlinearity"]}.get(kind, [])
    options = {key: getattr(module, key) for key in keys}
    with torch.device("meta"):  # draws no initial weights
        lowest = kind(module.input_size, module.hidden_size, num_layers=layers, **options)
    lowest.load_state_dict(module.state_dict(), strict=False, assign=True)
    return lowest.eval()


def _hidden(state: Any) -> Tensor | None:
    """Return h, [layers · directions, …, hidden], of the state (h, c) of an LSTM or the state h of another RNN."""
    return state[0] if isinstance(state, tuple) else state


def _of(name: str) -> Reader:
    """Read [in] from an argument of MultiheadAttention."""
    return lambda module, call, output: _squares(call[name])


_PROJECTIONS = {"q_proj_weight": _of("query"), "k_proj_weight": _of("key"), "v_proj_weight": _of("value")}


def _projected(module: nn.MultiheadAttention, call: Call, output: Any) -> Tensor:
    """Return [3 · embed, embed]: a third of the rows each for query, key and value."""
    squares = torch.stack([_squares(call[name]) for name in ("query", "key", "value")])
    return squares.repeat_interleave(module.embed_dim, 0)


def _attended(module: nn.MultiheadAttention, call: Call, output: Any) -> Tensor:
    """Return [embed]: the inputs of out_proj are the layer's outputs when out_proj is the identity."""
    projection = module.out_proj
    module.out_proj = deepcopy(projection)
    nn.init.eye_(module.out_proj.weight)
    if module.out_proj.bias is not None:
        nn.init.zeros_(module.out_proj.bias)
    try:
        return _squares(module.forward(**call)[0])
    finally:
        module.out_proj = projection
