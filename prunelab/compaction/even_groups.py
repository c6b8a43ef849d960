"""Channels that could go but stay, so that the groups of a convolution stay equal and the counts are multiples."""

from torch import nn

from prunelab.compaction.channel_groups import Group, Member
from prunelab.compaction.layer_weights import Rounding, groups, is_depthwise, multiple

EVEN, FASTER = "the groups of {} must stay equal", "a multiple of {} channels is faster"


def in_groups(group: Group) -> bool:
    """Return whether a layer uses the channels in groups of more than one."""
    return any(_count(member) > 1 for member in (*group.consumers, *group.norms))


def even(
    group: Group, free: list[int], merged: list[int], round_to: Rounding
) -> tuple[list[int], dict[int, str], dict[int, str]]:
    """Return the units that go, and why others stay that could go too: for a multiple, and for equal groups.

    Args:
        free: units that could go.
        merged: units that go in any case.
        round_to: leave a multiple of this many channels of a layer, where enough channels can stay.
    """
    goes, spared, uneven = dict.fromkeys(free), dict[int, str](), dict[int, str]()
    while True:
        before = len(goes)
        for member in group.producers:
            by = multiple(member.module, round_to)
            _spare(spared, goes, _short(member, [*goes, *merged], by), FASTER.format(by))
        for member in (*group.consumers, *group.norms):
            if _count(member) > 1:
                twin = next((other for other in group.producers if other.module is member.module), member)
                _spare(uneven, goes, _uneven([member, twin], goes), EVEN.format(member.name))
        if len(goes) == before:
            return list(goes), spared, uneven


def _spare(spared: dict[int, str], goes: dict[int, None], units: list[int], why: str) -> None:
    for unit in units:
        if unit in goes:
            del goes[unit]
            spared[unit] = why


def _short(member: Member, goes: list[int], multiple: int) -> list[int]:
    """The units that must stay so that a multiple stays; none if too few could."""
    going = [unit for unit in goes if unit in member.channels]
    short = (sum(len(member.channels[unit]) for unit in going) - len(member.live)) % multiple
    return going[:short] if short <= len(going) else []


def _uneven(sides: list[Member], goes: dict[int, None]) -> list[int]:
    """The units that must stay so that each group is gone as a whole, or loses as many channels as the others do."""
    count = _count(sides[0])
    whole: set[int] = set(range(count))
    going = []  # of each side and group: the units that go
    for member in sides:
        size = len(member.live) // count
        found: list[list[int]] = [[] for _ in range(count)]
        for unit in goes:
            for channel in member.channels.get(unit, ()):
                found[channel // size].append(unit)
        going.append((size, found))
        whole &= {i for i, units in enumerate(found) if len(units) == size}
    if len(whole) == count:
        whole.discard(0)
    stay: list[int] = []
    for size, found in going:
        rest = [units for i, units in enumerate(found) if i not in whole]
        fewest = min(size - 1, *map(len, rest), size)
        fewest = 0 if isinstance(sides[0].module, nn.GroupNorm) else fewest
        for units in rest:
            stay += units[: len(units) - fewest]
    return stay


def _count(member: Member) -> int:
    if isinstance(member.module, nn.GroupNorm):
        return member.module.num_groups
    return 1 if is_depthwise(member.module) else groups(member.module)
