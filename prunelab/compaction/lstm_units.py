"""Cutting hidden units that do nothing out of an LSTM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

GATES = 4  # input, forget, cell, output: their rows are stacked in this order


def cut_units(model: nn.Module, example: Tensor, name: str) -> str | None:
    """Cut hidden units that do nothing out of an LSTM and out of the linear layers that read it, in place.

    A unit does nothing if it is always 0 (the weights and biases of its cell gate are zero, so that nothing enters the
    cell; the initial state is taken to be 0), or if no remaining unit and no layer reads it. All layers of an nn.LSTM
    have the same width, so each loses as many units as the layer with the fewest such units.

    Args:
        example: a batch of inputs, [n, …].
        name: of the LSTM.

    Returns:
        Why units that do nothing stay; None if none of them stays.
    """
    lstm = model.get_submodule(name)
    assert isinstance(lstm, nn.LSTM)
    if lstm.bidirectional or lstm.proj_size:
        return f"{name}: it is {'bidirectional' if lstm.bidirectional else 'projected'}, which is not compacted"
    readers = _readers(model, example, lstm)
    idle = [_idle(lstm, layer, readers) for layer in range(lstm.num_layers)]  # of each layer: units
    fewest = min(min(len(units) for units in idle), lstm.hidden_size - 1)
    with torch.no_grad():
        if fewest:
            _cut(lstm, [units[:fewest] for units in idle], readers)
    more = sum(len(units) - fewest for units in idle)
    layers = "all layers of an LSTM have one width" if lstm.num_layers > 1 else "one must be left"
    return f"{name}: {more} hidden units that do nothing stay: {layers}" if more else None


def _readers(model: nn.Module, example: Tensor, lstm: nn.LSTM) -> list[nn.Linear]:
    """The linear layers whose input is the hidden state: the LSTM's output is replaced by marks, which are searched."""
    marks = torch.arange(1, lstm.hidden_size + 1).to(example)
    found: list[nn.Linear] = []

    def mark(module: nn.Module, inputs: Any, output: Any) -> Any:
        states, (hidden, cell) = output
        last = torch.arange(len(hidden), device=hidden.device).view(-1, *[1] * (hidden.dim() - 1)) == len(hidden) - 1
        return marks.expand_as(states).clone(), (torch.where(last, marks, torch.nan), torch.full_like(cell, torch.nan))

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0] if inputs else None
        same = isinstance(x, Tensor) and x.shape[-1:] == marks.shape and bool((x == marks).all())
        if same and isinstance(module, nn.Linear) and module not in found:
            found.append(module)

    handles = [module.register_forward_pre_hook(look) for module in model.modules() if isinstance(module, nn.Linear)]
    handles.append(lstm.register_forward_hook(mark))
    try:
        with torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _idle(lstm: nn.LSTM, layer: int, readers: list[nn.Linear]) -> list[int]:
    """Return the units of a layer that are always 0, or that are read only by units that go as well."""
    size = lstm.hidden_size
    recurrent = getattr(lstm, f"weight_hh_l{layer}").view(GATES, size, size)
    above = [getattr(lstm, f"weight_ih_l{layer + 1}")] if layer + 1 < lstm.num_layers else [r.weight for r in readers]
    if above:
        unread = ~torch.stack([weight.any(0) for weight in above]).any(0)  # [hidden]
    else:
        unread = torch.zeros(size, dtype=torch.bool, device=recurrent.device)  # it is not known which layers read them
    zero = _always_zero(lstm, layer)
    goes = unread | zero
    while True:
        read = recurrent[:, ~goes].flatten(0, 1).any(0)  # [hidden]: whether a unit that stays reads it
        less = goes & (zero | ~read)
        if bool((less == goes).all()):
            return [int(unit) for unit in goes.nonzero().flatten()]
        goes = less


def _always_zero(lstm: nn.LSTM, layer: int) -> Tensor:
    """Units that are always 0: h = o · tanh(c) and c' = f · c + i · tanh(g), so h is 0 if g is 0 and c begins at 0."""
    size = lstm.hidden_size
    cell = slice(2 * size, 3 * size)
    alive = getattr(lstm, f"weight_ih_l{layer}")[cell].any(1) | getattr(lstm, f"weight_hh_l{layer}")[cell].any(1)
    if lstm.bias:
        alive |= (getattr(lstm, f"bias_ih_l{layer}") + getattr(lstm, f"bias_hh_l{layer}"))[cell] != 0
    return ~alive


def _cut(lstm: nn.LSTM, goes: list[list[int]], readers: list[nn.Linear]) -> None:
    size = lstm.hidden_size
    stays = [torch.tensor([i for i in range(size) if i not in units], dtype=torch.long) for units in goes]
    for layer, kept in enumerate(stays):
        rows = torch.cat([gate * size + kept for gate in range(GATES)])
        for key in [key for key, _ in lstm.named_parameters() if key.endswith(f"_l{layer}")]:
            value = getattr(lstm, key).detach()[rows]
            if key.startswith("weight_hh"):
                value = value[:, kept]
            elif key.startswith("weight_ih") and layer:
                value = value[:, stays[layer - 1]]
            setattr(lstm, key, nn.Parameter(value.contiguous()))
    lstm.hidden_size = len(stays[0])
    for reader in readers:
        reader.weight = nn.Parameter(reader.weight.detach()[:, stays[-1]].contiguous())
        reader.in_features = len(stays[-1])
