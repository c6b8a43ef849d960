"""Hidden units of LSTM, GRU and RNN layers: how their outputs are followed, and which of them do nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from prunelab.compaction.channel_cuts import Cut
from prunelab.compaction.channel_groups import UNSEEN, Links, along
from prunelab.compaction.even_groups import FASTER
from prunelab.compaction.layer_weights import GATES, READS, Key, Rounding, live, multiple, owners
from prunelab.compaction.probes import tensors

if TYPE_CHECKING:
    from prunelab.compaction.channel_trace import Trace

Slot = tuple[int, str]  # a layer's number and the suffix of a direction
NEW = {"LSTM": 2, "GRU": 2, "RNN_TANH": 0, "RNN_RELU": 0}  # the gate without which nothing enters the state


def slots(rnn: nn.RNNBase) -> list[Slot]:
    """Return the layers and directions of a recurrent layer, in torch's order."""
    return [(i, suffix) for i in range(rnn.num_layers) for suffix in ("", "_reverse")[: 1 + rnn.bidirectional]]


def label(trace: Trace, rnn: nn.RNNBase, inputs: list[Any], output: Any) -> None:
    """Label the output of a recurrent layer with its hidden units, and mark that it reads its input."""
    x, states = inputs[0], output[0]
    x, states = (value.data if isinstance(value, PackedSequence) else value for value in (x, states))
    labels = trace.label(x)
    directions = [suffix for layer, suffix in slots(rnn) if layer == 0]
    read = [trace.stored(rnn.get_parameter(f"weight_ih_l0{suffix}"), 1) for suffix in directions]
    for into in read:
        if labels is not None:
            trace.links.merge(labels, along(into, x.dim() - 1, x.shape))
    units = [trace.stored(rnn.get_parameter(f"weight_hh_l{i}{suffix}"), 1) for i, suffix in slots(rnn)]
    trace.put(states, along(torch.cat(units[-len(directions) :]), states.dim() - 1, states.shape))
    hidden, *cell = output[1] if isinstance(output[1], tuple) else (output[1],)
    inner = units
    if rnn.proj_size:
        inner = [trace.stored(rnn.get_parameter(f"weight_hr_l{i}{suffix}"), 1) for i, suffix in slots(rnn)]
        trace.links.fix(torch.cat(units), f"{trace.place} projects them")
    for state, own in ((hidden, units), *((state, inner) for state in cell)):
        stacked = torch.stack(own)  # [layers · directions, units]
        trace.put(state, (stacked if state.dim() == 2 else stacked.unsqueeze(1)).expand(state.shape))
    if len(inputs) > 1 and inputs[1] is not None:
        trace.links.fix(torch.cat([*units, *inner]), f"{trace.place} starts from a state that is given")
        for state in tensors(inputs[1]):
            trace.fix(state, f"{trace.place} starts from them")


def decide(name: str, rnn: nn.RNNBase, model: nn.Module, links: Links, round_to: Rounding) -> tuple[Cut, list[str]]:
    """Return which hidden units are cut, with the columns of the layers that read them, and why others stay.

    A unit does nothing if it is always 0 (the weights and biases of what enters its state are zero; the initial state
    is 0), or if no remaining unit and no layer reads it. All layers and directions of an nn.RNNBase have the same
    width, so each loses as many units as the one with the fewest such units.
    """
    merged, held = links.merged(), owners(model)
    found: dict[Slot, dict[int, dict[Key, list[int]]]] = {}
    fixed = Counter[str]()
    for slot in slots(rnn):
        keys, read, why = _outside(name, rnn, slot, links, merged, held)
        idle = _idle(rnn, slot, read)
        fixed.update(reason for unit in idle if (reason := why[unit]) is not None)
        found[slot] = {unit: keys[unit] for unit in idle if why[unit] is None}
    said = [f"{name}: {_staying(count)}: {why}" for why, count in fixed.items()]
    fewest = min(*map(len, found.values()), rnn.hidden_size - 1)
    by = multiple(rnn, round_to)
    spare = (fewest - rnn.hidden_size) % by
    rounded = 0 < spare <= fewest
    fewest -= spare if rounded else 0
    cut = Cut(name)
    for slot, units in found.items():
        for unit in list(units)[:fewest]:
            cut.units.append(unit)
            cut.take(units[unit])
            cut.take(_own(name, rnn, slot, unit))
    more = sum(len(units) - fewest for units in found.values())
    if more:
        what = "all layers and directions" if rnn.bidirectional else "all layers"
        same = f"{what} of {'an LSTM' if isinstance(rnn, nn.LSTM) else 'a ' + type(rnn).__name__} have one width"
        alone = same if len(found) > 1 else "one must be left"
        why_more = FASTER.format(by) if rounded else alone
        said.append(f"{name}: {_staying(more)}: {why_more}")
    return cut, said


def _staying(count: int) -> str:
    return "1 hidden unit that does nothing stays" if count == 1 else f"{count} hidden units that do nothing stay"


def _outside(
    name: str, rnn: nn.RNNBase, slot: Slot, links: Links, merged: dict[int, dict[Key, list[int]]], held: Any
) -> tuple[list[dict[Key, list[int]]], Tensor, list[str | None]]:
    """Look for what depends on each hidden unit outside of the layer.

    Returns:
        For each unit the indices of other tensors that are cut with it, by tensor and dimension; whether another layer
        reads it, bool [hidden_size]; and the reason why it cannot be cut, or None.
    """
    layer, suffix = slot
    own = (f"{name}.weight_{'hr' if rnn.proj_size else 'hh'}_l{layer}{suffix}".strip("."), 1)
    keys, read, why = [], [], []
    alive: dict[nn.Module, list[bool]] = {}
    for unit in range(rnn.hidden_size):
        number = links.find(links.first[own] + unit) if own in links.first else -1
        coupled = {key: found for key, found in merged.get(number, {}).items() if key != own}
        sides = [(o, o.side(dim), found) for (tensor, dim), found in coupled.items() for o in held.get(tensor, ())]
        readers = [(o.module, found) for o, side, found in sides if side == READS]
        alive |= {module: live(module, READS) for module, _ in readers if module not in alive}
        others = [o.name for o, side, _ in sides if side != READS and getattr(o.module, o.tensor).dim() > 1]
        last = layer == rnn.num_layers - 1
        unseen = UNSEEN if last and not readers and not rnn.proj_size else None
        reason = f"they are combined with channels of {others[0]}" if others else links.why.get(number, unseen)
        keys.append(coupled)
        why.append(reason)
        read.append(bool(reason) or any(alive[module][i] for module, found in readers for i in found))
    return keys, torch.tensor(read), why


def _idle(rnn: nn.RNNBase, slot: Slot, read: Tensor) -> list[int]:
    """Return the units that are always 0, or that are read only by units that go as well."""
    layer, suffix = slot
    size, gates = rnn.hidden_size, GATES[rnn.mode]
    hidden = rnn.get_parameter(f"weight_hh_l{layer}{suffix}").detach()
    zero = _always_zero(rnn, slot)
    if rnn.proj_size:
        unread = ~rnn.get_parameter(f"weight_hr_l{layer}{suffix}").detach().any(0)
        return [int(unit) for unit in (zero | (unread & ~read.to(zero.device))).nonzero().flatten()]
    above = [
        weight[:, bool(suffix) * size : bool(suffix) * size + size].any(0)
        for key, weight in rnn.named_parameters()
        if key in (f"weight_ih_l{layer + 1}", f"weight_ih_l{layer + 1}_reverse")
    ]
    unread = ~torch.stack([read.to(zero.device), *above]).any(0)
    goes, recurrent = unread | zero, hidden.view(gates, size, size)
    while True:
        kept = recurrent[:, ~goes].flatten(0, 1).any(0)  # [hidden]: whether a unit that stays reads it
        less = goes & (zero | ~kept)
        if bool((less == goes).all()):
            return [int(unit) for unit in goes.nonzero().flatten()]
        goes = less


def _always_zero(rnn: nn.RNNBase, slot: Slot) -> Tensor:
    """Units that are always 0, [hidden].

    LSTM: h = o · tanh(c), c' = f · c + i · tanh(g). GRU: h' = (1 − z) · tanh(n) + z · h, where n adds the reset gate
    times the part of the hidden state, with its bias. RNN: h' = tanh or ReLU of one sum. All begin at 0.
    """
    rows = slice(NEW[rnn.mode] * rnn.hidden_size, (NEW[rnn.mode] + 1) * rnn.hidden_size)
    ending = f"l{slot[0]}{slot[1]}"
    into, back = (rnn.get_parameter(f"weight_{kind}_{ending}")[rows] for kind in ("ih", "hh"))
    alive = into.any(1) | back.any(1)
    if rnn.bias:
        one, other = (rnn.get_parameter(f"bias_{kind}_{ending}")[rows] for kind in ("ih", "hh"))
        alive |= (one != 0) | (other != 0) if isinstance(rnn, nn.GRU) else one + other != 0
    return ~alive


def _own(name: str, rnn: nn.RNNBase, slot: Slot, unit: int) -> dict[Key, list[int]]:
    """The indices of the recurrent layer's own tensors that belong to a hidden unit."""
    layer, suffix = slot
    rows = [gate * rnn.hidden_size + unit for gate in range(GATES[rnn.mode])]

    def keys() -> Iterator[tuple[Key, list[int]]]:
        for tensor, _ in rnn.named_parameters():
            full = f"{name}.{tensor}".strip(".")
            if tensor.endswith(f"_l{layer}{suffix}") and not tensor.startswith("weight_hr"):
                yield (full, 0), rows
            if tensor == f"weight_{'hr' if rnn.proj_size else 'hh'}_l{layer}{suffix}":
                yield (full, 1), [unit]
            if tensor in (f"weight_ih_l{layer + 1}", f"weight_ih_l{layer + 1}_reverse") and not rnn.proj_size:
                yield (full, 1), [bool(suffix) * rnn.hidden_size + unit]

    return dict(keys())
