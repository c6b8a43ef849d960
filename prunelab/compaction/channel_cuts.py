"""Which channels of a group can be cut without changing the function, and what must be changed before the cut.

A unit can be cut if every layer that reads it has only zero weights for it, or reads a constant there, which can be
added to the layer's bias instead.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import isnan, nan

import torch
from torch import Tensor, nn

from prunelab.compaction import layer_weights
from prunelab.compaction.channel_groups import Group, Member
from prunelab.compaction.even_groups import even, in_groups
from prunelab.compaction.layer_weights import Key, is_depthwise
from prunelab.costs.counts import TRANSPOSED

Constants = dict[str, Tensor]
Reason = tuple[str, tuple[str, ...]]  # a sentence, and the names of layers that end it
VARIES, EDGES = "varies", "edges"
TOGETHER = "they can only go together with others, which have weights"


@dataclass
class Cut:
    """The units of a group that are cut, and the changes of weights that go along.

    Attributes:
        root: of the group, or the name of a recurrent layer.
        units: that are cut.
        tensors: the indices of tensors that are cut.
        folds: (consumer, channel, constant): the constant that is read there is added to the consumer's bias.
        merges: (consumer, channel, other, factor): the consumer reads another channel times a factor instead.
        blanks: (consumer, channel): the channel must stay, but its constant is in the bias: its weights become zero.
        clears: (producer, channel): the channel must stay, but no layer reads it: its weights become zero.
    """

    root: str
    units: list[int] = field(default_factory=list)
    tensors: dict[Key, list[int]] = field(default_factory=dict)
    folds: list[tuple[str, int, float]] = field(default_factory=list)
    merges: list[tuple[str, int, int, float]] = field(default_factory=list)
    blanks: list[tuple[str, int]] = field(default_factory=list)
    clears: list[tuple[str, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.units or self.blanks or self.clears)

    def take(self, tensors: dict[Key, list[int]]) -> None:
        """Add indices that are cut."""
        for key, indices in tensors.items():
            self.tensors.setdefault(key, []).extend(indices)


def decide(group: Group, given: Constants, round_to: layer_weights.Rounding) -> tuple[Cut, list[str]]:
    """Return what is cut from a group, and sentences on channels without weights that stay.

    Args:
        given: the constants that layers read, from `probes.constants`.
        round_to: leave a multiple of this many channels, where enough channels can stay.
    """
    able = [unit for unit in group.units if unit not in group.obstacles]
    blocked = {unit: found for unit in able if (found := _blocked(group, unit, given))}
    only_edges = [unit for unit, found in blocked.items() if all(why == EDGES for _, why in found)]
    keeper, merged = _merging(group, only_edges, given)
    free = [unit for unit in able if unit not in blocked]
    goes, spared, uneven = even(group, free, merged, round_to)
    left = _last_ones(group, {*goes, *merged})
    cut = Cut(group.root, [unit for unit in (*goes, *merged) if unit not in left])
    for unit in cut.units:
        cut.take(group.tensors[unit])
        _compensate(cut, group, unit, given, keeper if unit in merged else None)
    for unit in [*(unit for unit in goes if unit in left), *uneven]:
        _compensate(cut, group, unit, given, None)
        readers = [member for member in group.consumers if member.uses(unit)]
        others = [member for member in readers if not isinstance(member.module, nn.RNNBase)]  # it reads zeros there
        cut.blanks += [(member.name, channel) for member in others for channel in member.channels[unit]]
    cut.clears = [
        (member.name, channel)
        for unit in (*left, *uneven)
        if not any(reader.uses(unit) for reader in group.consumers)
        for member in group.producers
        for channel in member.channels.get(unit, [])
        if member.live[channel]
    ]
    reasons: dict[int, Reason] = {unit: (why, ()) for unit, why in group.obstacles.items()}
    reasons |= {unit: _reason(group, unit, found, given) for unit, found in blocked.items() if unit not in cut.units}
    reasons |= {unit: (why, ()) for unit, why in (*spared.items(), *uneven.items())}
    return cut, _why(group, reasons)


def _blocked(group: Group, unit: int, given: Constants) -> list[tuple[Member, str]]:
    """Return the layers that need the unit, each with VARIES or EDGES."""
    found = []
    may_be = _may_be_constant(group, unit)
    for member in group.consumers:
        if not member.uses(unit):
            continue
        values = _values(member, unit, given).tolist() if may_be else [nan]
        if any(map(isnan, values)) or (any(values) and isinstance(member.module, nn.RNNBase)):
            found.append((member, VARIES))
        elif any(values) and not _reads_no_edges(member.module):
            found.append((member, EDGES))
    return found


def _may_be_constant(group: Group, unit: int) -> bool:
    """Whether the weights explain that a channel is constant, so that it is no accident of the random inputs."""
    writers = [member for member in group.producers if member.uses(unit)]
    depthwise = any(is_depthwise(member.module) and member not in writers for member in group.producers)
    stopped = any(not norm.live[channel] for norm in group.norms for channel in norm.channels.get(unit, ()))
    return depthwise or stopped or all(is_depthwise(member.module) for member in writers)


def _values(member: Member, unit: int, given: Constants) -> Tensor:
    """Return the constants that a layer reads on the channels of a unit; NaN where they vary or are not known."""
    channels = member.channels.get(unit, [])
    known = given.get(member.name)
    return torch.full((len(channels),), torch.nan) if known is None else known[channels]


def _reads_no_edges(module: nn.Module) -> bool:
    """Whether a constant input has the same effect at every position: there is no zero padding."""
    if isinstance(module, (nn.Linear, nn.RNNBase)):
        return True
    if isinstance(module, TRANSPOSED):
        return False
    padding = module.padding
    none = padding == "valid" if isinstance(padding, str) else not any(padding)  # type: ignore[arg-type]
    return none or module.padding_mode != "zeros"


def _merging(group: Group, units: list[int], given: Constants) -> tuple[int | None, list[int]]:
    """Merge constant units that zero padding keeps from being cut: return one that stays, and those merged into it.

    Each is a constant, so each is a multiple of any other one that is not 0. The unit that can replace the most others
    stays; of equals, the one with the largest constants, which loses the fewest digits.
    """
    readers = [member for member in group.consumers if not _reads_no_edges(member.module)]
    several = any(len(member.channels.get(unit, [])) != 1 for member in readers for unit in units)
    if len(units) < 2 or several or in_groups(group):
        return None, []
    values = torch.stack([torch.cat([_values(member, unit, given) for unit in units]) for member in readers])
    needs = torch.tensor([[member.uses(unit) for unit in units] for member in readers]).to(values.device)
    needs &= values != 0  # [readers, units]
    offers = values.nan_to_num() != 0
    reads = (~needs.unsqueeze(2) | offers.unsqueeze(1)).all(0)  # [unit, other]: whether the other can replace it
    reads.fill_diagonal_(False)
    size = torch.where(offers, values.abs(), torch.inf).amin(0)
    best = max(range(len(units)), key=lambda i: (int(reads[:, i].sum()), float(size[i])))
    return units[best], [unit for unit, can in zip(units, reads[:, best].tolist(), strict=True) if can]


def _last_ones(group: Group, goes: set[int]) -> set[int]:
    """Units that must stay, since every layer must keep one channel."""
    left: set[int] = set()
    for member in (*group.producers, *group.consumers):
        going = {unit: found for unit, found in member.channels.items() if unit in goes - left}
        if going and sum(len(found) for found in going.values()) == len(member.live):
            left.add(min(going))
    return left


def _compensate(cut: Cut, group: Group, unit: int, given: Constants, keeper: int | None) -> None:
    for member in group.consumers:
        if not member.uses(unit) or isinstance(member.module, nn.RNNBase):
            continue
        values = _values(member, unit, given)
        if keeper is not None and not _reads_no_edges(member.module):
            (channel,), (other,) = member.channels[unit], member.channels[keeper]
            if float(values):
                cut.merges.append((member.name, channel, other, float(values / _values(member, keeper, given))))
            continue
        for channel, value in zip(member.channels[unit], values.tolist(), strict=True):
            if value:
                cut.folds.append((member.name, channel, value))


@torch.no_grad()
def apply(model: nn.Module, cuts: list[Cut]) -> None:
    """Change weights and biases so that the units can be cut without changing the function, and cut them, in place."""
    together = Cut("")
    for cut in cuts:
        for name, channel, value in cut.folds:
            layer_weights.add_to_bias(model.get_submodule(name), channel, value)
        for name, channel, other, factor in cut.merges:
            module = model.get_submodule(name)
            layer_weights.column(module, other).add_(factor * layer_weights.column(module, channel))
        for name, channel in cut.blanks:
            layer_weights.column(model.get_submodule(name), channel).zero_()
        for name, channel in cut.clears:
            layer_weights.clear(model.get_submodule(name), channel)
        together.take(cut.tensors)
    layer_weights.cut(model, together.tensors)


def _reason(group: Group, unit: int, found: list[tuple[Member, str]], given: Constants) -> Reason:
    edges = tuple(member.name for member, why in found if why == EDGES)
    if edges:
        return "the output is constant but not zero, and meets the zero padding of", edges
    alive = tuple(member.name for member in group.producers if member.uses(unit))
    if alive:
        return "the same channels are also written by", alive
    readers = tuple(member.name for member, _ in found)
    if not any(reader in given for reader in readers):
        return "the values are unknown, since the network reads the weights without calling the layer", readers
    return "the values vary, or differ between positions, where they are read by", readers


def _why(group: Group, reasons: dict[int, Reason]) -> list[str]:
    """One sentence per layer and reason, on the layer's channels without weights that stay."""
    counted: Counter[tuple[str, str]] = Counter()
    others: dict[tuple[str, str], dict[str, None]] = {}  # a dict, to keep their order
    for unit, (reason, names) in reasons.items():
        for member in group.producers:
            dead = sum(not member.live[channel] for channel in member.channels.get(unit, ()))
            said, ends = (TOGETHER, ()) if member.uses(unit) else (reason, names)
            if dead:
                counted[member.name, said] += dead
                others.setdefault((member.name, said), {}).update(dict.fromkeys(ends))
    return [
        f"{name}: {_channels(count)}: {reason} {_few(list(others[name, reason]))}".rstrip()
        for (name, reason), count in counted.items()
    ]


def _channels(count: int) -> str:
    return "1 channel without weights stays" if count == 1 else f"{count} channels without weights stay"


def _few(names: list[str]) -> str:
    return ", ".join(names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} other layers"])
