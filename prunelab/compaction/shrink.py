"""From a network with zeros to a smaller one: cut, look whether it still says the same, cut again."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from prunelab.compaction import attention, constant, recurrent
from prunelab.compaction import channel_groups as channels
from prunelab.compaction import cuts as deciding
from prunelab.compaction import probes as probing
from prunelab.compaction.attention import Heads
from prunelab.compaction.cuts import Cut
from prunelab.pruning import masks, skipping
from prunelab.training.callbacks import dynamic_gates

FAILS = (RuntimeError, ValueError, TypeError, AssertionError, LookupError, AttributeError, ArithmeticError)
MULTIPLE = 4  # of a convolution's channels, in what experiments leave
NOTHING = "nothing can be removed: no whole channel, neuron, hidden unit or attention head is zero or unread"


class Compacted(NamedTuple):
    """A smaller network that computes the same function, in eval mode.

    Attributes:
        model: shares nothing with the network it was made from.
        removed: a sentence for each layer that became smaller.
        kept_because: sentences on what has no weights and stays all the same.
        largest_difference: of the outputs on random inputs, absolute, in the network's own precision.
    """

    model: nn.Module
    removed: list[str]
    kept_because: list[str]
    largest_difference: float


@dataclass
class Bench:
    """The network as it is so far, with what its outputs must be."""

    model: nn.Module
    example: Tensor
    inputs: list[Tensor]
    expected: list[Tensor]

    def attempt(self, change: Callable[[nn.Module], None]) -> str | None:
        """Makes a change if the outputs stay as they are; else it is undone, and why is returned."""
        candidate = deepcopy(self.model)
        try:
            change(candidate)
            found = probing.outputs(candidate, self.inputs)
        except FAILS as error:
            return f"the network does not run without them ({_first_line(error)})"
        if [x.shape for x in found] != [x.shape for x in self.expected]:
            return "they are part of the network's output"
        if not probing.agree(self.expected, found):
            return f"without them the output moves by {probing.largest_difference(self.expected, found):.2g}"
        self.model = candidate
        return None


def compact(model: nn.Module, example: Tensor, multiple: int = 1) -> Compacted:
    """Removes channels, neurons, LSTM units, attention heads and layers that do nothing; the function stays as it is.

    Each removal is tried in float64 and undone if the outputs on random inputs move. BatchNorm and dropout are taken as
    they are in eval mode. Everything is counted on `example`'s device.

    Args:
        model: with masks, or with zeros baked in; stays as it is. Its output is one tensor.
        example: an input with its batch dimension, [n, …], that the model can take.
        multiple: of which a convolution's channels are to be a multiple, if enough of them can stay. Kernels take
            several channels at a time: pooling in `channels_last` is slower on 3 than on 4.

    Raises:
        ConfigError: if torch-pruning is not installed.
        ValueError: if the model's output is not one tensor.
    """
    channels.need_torch_pruning()
    dense = masks.plain_copy(model).eval()
    inputs = probing.probes(example)
    before = probing.outputs(dense, inputs)
    if not all(isinstance(x, Tensor) for x in before):
        raise ValueError(f"model={type(model).__name__}: its output must be one tensor")
    bench = _bench(dense, example)
    kept = _left_out(bench) + _channels(bench, multiple) + _heads(bench) + _units(bench)
    _constants(bench)
    small = bench.model.to(before[0].dtype)
    _as_before(dense, small)
    after = probing.outputs(small, inputs)
    difference = probing.largest_difference(before, after)
    removed = described(dense, small)
    if not probing.agree(before, after):
        return Compacted(dense, [], [f"the compact network's output is {difference:.2g} off", *kept], 0.0)
    return Compacted(small, removed, kept or ([] if removed else [NOTHING]), difference)


def _bench(dense: nn.Module, example: Tensor) -> Bench:
    """In float64, where rounding cannot be taken for a difference, if the model runs there."""
    inputs, model = probing.probes(example), deepcopy(dense)
    try:
        double = [x.double() for x in inputs]
        return Bench(model.double(), example.double(), double, probing.outputs(model, double))
    except FAILS:
        return Bench(deepcopy(dense), example, inputs, probing.outputs(dense, inputs))


def _left_out(bench: Bench) -> list[str]:
    """Layers that are skipped, or that a gate never executes, give way to the identity. Returns why some stay."""
    names = list(_not_run(bench.model))
    tried = {name: bench.attempt(partial(put, name=name, module=skipping.Absent())) for name in names}
    return [f"{name}: is never run, and stays: {why}" for name, why in tried.items() if why]


def _not_run(model: nn.Module) -> dict[str, str]:
    """The names of layers that are never run, and why not."""
    gated = {name: module for name, module in model.named_modules() if isinstance(module, dynamic_gates.Gated)}
    closed = {name: "its gate is closed" for name, module in gated.items() if not module.executed}
    return closed | dict.fromkeys(skipping.skipped(model), "the strategy removed it")


def _channels(bench: Bench, multiple: int) -> list[str]:
    """Cuts channels until nothing more goes; each cut may free others. Returns why some stay.

    It ends: each cut that is accepted leaves fewer weights that are not zero, or fewer channels; others are refused.
    """
    refused: dict[str, str] = {}
    while True:
        given, _ = probing.constants(bench.model, bench.example)
        try:
            groups = channels.groups(bench.model, bench.example)
        except FAILS as error:
            return [f"channels: torch-pruning cannot follow this network: {_first_line(error)}"]
        decided = [deciding.decide(group, given, multiple) for group in groups]
        cuts = [cut for cut, _ in decided if cut and cut.root not in refused]
        if not cuts:
            said = [*refused.values(), *(sentence for _, sentences in decided for sentence in sentences)]
            return list(dict.fromkeys(said))  # a layer may be in several groups
        if bench.attempt(partial(_cut_all, example=bench.example, cuts=cuts)):
            for cut in cuts:  # one of them is to blame
                why = bench.attempt(partial(_cut_all, example=bench.example, cuts=[cut]))
                if why is not None:
                    refused[cut.root] = f"{cut.root}: channels that could go ({len(cut.units)}) stay: {why}"


def _cut_all(model: nn.Module, example: Tensor, cuts: list[Cut]) -> None:
    for cut in cuts:
        deciding.prepare(model, cut)
    for cut in cuts:
        if cut.units:
            channels.cut(model, example, cut.root, cut.units)


def _heads(bench: Bench) -> list[str]:
    """Cuts attention heads. Returns why some stay."""
    kept = []
    for name in _named(bench.model, nn.MultiheadAttention):
        module = bench.model.get_submodule(name)
        assert isinstance(module, nn.MultiheadAttention)
        heads = attention.fewer_heads(module)
        if isinstance(heads, str):
            kept.append(f"{name}: its heads stay: {heads}")
        elif heads is not None:
            why = bench.attempt(partial(put, name=name, module=heads))
            kept += [f"{name}: its heads stay: {why}"] if why else []
    return kept


def _units(bench: Bench) -> list[str]:
    """Cuts hidden units of LSTMs. Returns why some stay."""
    others = [*_named(bench.model, nn.GRU), *_named(bench.model, nn.RNN)]
    kept = [f"{name}: hidden units of anything but an LSTM are not compacted" for name in others]
    for name in _named(bench.model, nn.LSTM):
        said: list[str] = []
        why = bench.attempt(partial(_cut_units, example=bench.example, name=name, said=said))
        kept += [f"{name}: its hidden units stay: {why}"] if why else said
    return kept


def _cut_units(model: nn.Module, example: Tensor, name: str, said: list[str]) -> None:
    sentence = recurrent.cut_units(model, example, name)
    if sentence is not None:
        said.append(sentence)


def _constants(bench: Bench) -> None:
    """Layers that always give the same are not computed any more: this is how whole residual branches go."""
    _, made = probing.constants(bench.model, bench.example)
    for name, values in made.items():
        module = bench.model.get_submodule(name)
        depends = isinstance(module, probing.LAYERS) and bool(module.weight.any())  # type: ignore[operator]
        if constant.can_replace(module) and not depends and not bool(values.isnan().any()):
            bench.attempt(partial(put, name=name, module=constant.like(module, values)))


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts a module in another one's place."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _named(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kind)]


def _as_before(dense: nn.Module, small: nn.Module) -> None:
    """Parameters that were frozen are frozen again."""
    frozen = {name for name, parameter in dense.named_parameters() if not parameter.requires_grad}
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(name not in frozen)
        parameter.grad = None


SIZES = {"out_channels": "channels", "out_features": "neurons", "hidden_size": "hidden units", "num_heads": "heads"}


def described(dense: nn.Module, small: nn.Module) -> list[str]:
    """What became of the layers: `conv1: 3 of 6 channels`."""
    found, not_run = [], _not_run(dense)
    for name, before in dense.named_modules():
        try:
            after = small.get_submodule(name)
        except AttributeError:
            continue  # inside of what was replaced
        if isinstance(after, constant.Constant):
            found.append(f"{name}: the whole layer, since its output never changes")
            continue
        if isinstance(after, nn.Identity) and name in not_run:
            found.append(f"{name}: the whole layer, since {not_run[name]}")
            continue
        for size, units in SIZES.items():
            was = getattr(before, size, None)
            now = after.heads if isinstance(after, Heads) else getattr(after, size, None)
            if isinstance(was, int) and isinstance(now, int) and now < was:
                found.append(f"{name}: {was - now} of {was} {units}")
    return found


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
