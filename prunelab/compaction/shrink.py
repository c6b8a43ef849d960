"""Compaction itself: make a removal, check that the outputs stay as they are, undo it if they do not, go on."""

import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from prunelab.compaction import (
    attention_heads,
    channel_cuts,
    channel_groups,
    channel_trace,
    constant_layer,
    probes,
    recurrent_units,
)
from prunelab.compaction.channel_cuts import Cut
from prunelab.compaction.compacted import Compacted, describe
from prunelab.compaction.layer_weights import LAYERS, Rounding
from prunelab.compaction.probes import Inputs
from prunelab.compaction.proof import full_precision, prove
from prunelab.errors import ConfigError, at_least_one
from prunelab.pruning import skipping
from prunelab.pruning.gated import Gated
from prunelab.runtime.recurrent import in_one_piece

EXAMPLES = 4  # of the given batch; more would take longer and find nothing else
M = TypeVar("M", bound=nn.Module)
NOTHING = "nothing can be removed: no layer has a channel, neuron, hidden unit or attention head that is zero or unread"


@full_precision()
def compact(model: nn.Module, example: Inputs, round_to: int | Rounding = 1) -> Compacted:
    """Remove channels, neurons, recurrent units, attention heads and layers that do nothing, and keep the function.

    Each removal is tried in float64 and undone if the outputs on random inputs change. BatchNorm and dropout are taken
    as they are in eval mode. The model itself stays as it is.

    Args:
        model: pruned weights are zero.
        example: a batch of inputs, [n, …], on the model's device; a tuple or dict of them for a model that takes
            several.
        round_to: leave a multiple of this many channels, neurons and hidden units, where enough can stay; or two
            numbers: of convolutions, and of other layers. Kernels process several channels at a time: pooling in
            `channels_last` is slower on 3 channels than on 4.

    Raises:
        ConfigError: if the model has no output that can be compared, or if the result fails its proof.
    """
    rounding = (round_to, round_to) if isinstance(round_to, int) else round_to
    for value in rounding:
        at_least_one("round_to", value)
    dense = in_one_piece(_copy(model)).eval()
    dense.zero_grad(set_to_none=True)
    inputs = probes.probes(probes.with_tensors(lambda x: x[:EXAMPLES] if x.dim() else x, example))
    before = probes.outputs(dense, inputs)
    if not before or not probes.agree(before, probes.outputs(dense, inputs), probes.tolerance(dense)):
        why = "must return the same finite tensors whenever it gets the same input in eval mode"
        raise ConfigError(f"model={type(model).__name__}: {why}; compaction compares them")
    trial = _trial(dense, inputs, before)
    kept = _layers(trial) + _channels(trial, rounding) + _heads(trial) + _cells(trial)
    _constants(trial)
    small = _as_before(dense, trial.model)
    proof = prove(dense, small, inputs, double=False)
    if not probes.agree(before, probes.outputs(small, inputs), probes.tolerance(dense)):
        why = f"the compact network's output is {proof.largest_difference:.2g} off"
        raise ConfigError(f"model={type(model).__name__}: {why}")
    removed = describe(dense, small, _not_run(dense))
    return Compacted(small, removed, kept or ([] if removed else [NOTHING]), proof)


@dataclass
class _Trial:
    """The network so far, and the outputs that it must keep; the last of the inputs is the example."""

    model: nn.Module
    inputs: list[Inputs]
    expected: list[Tensor]

    @property
    def example(self) -> Inputs:
        return self.inputs[-1]

    def attempt(self, change: Callable[[nn.Module], None]) -> str | None:
        """Make a change. If the outputs change too, undo it and return why it is not possible."""
        candidate = in_one_piece(deepcopy(self.model))
        try:
            change(candidate)
            found = probes.outputs(in_one_piece(candidate), self.inputs)
        except probes.FAILS:
            return "the network's code fails without them, for example where it splits tensors into fixed sizes"
        if [x.shape for x in found] != [x.shape for x in self.expected]:
            return "they are part of the network's output"
        if not probes.agree(self.expected, found, probes.tolerance(candidate)):
            return f"without them the output moves by {probes.largest_difference(self.expected, found):.2g}"
        self.model = candidate
        return None


def _trial(dense: nn.Module, inputs: list[Inputs], outputs: list[Tensor]) -> _Trial:
    """Return a trial in float64, where rounding hides no difference; in the model's type if it does not run there."""
    model = deepcopy(dense)
    try:
        double = [probes.double(x) for x in inputs]
        return _Trial(model.double(), double, probes.outputs(model, double))
    except probes.FAILS:
        return _Trial(in_one_piece(deepcopy(dense)), inputs, outputs)


def _layers(trial: _Trial) -> list[str]:
    """Replace layers that are never run by the identity. Return why some stay."""
    kept = []
    for name in _not_run(trial.model):
        why = trial.attempt(partial(_put, name=name, module=skipping.Absent()))
        kept += [f"{name}: is never run, and stays: {why}"] if why else []
    return kept


def _not_run(model: nn.Module) -> dict[str, str]:
    """Return why layers are never run, by the names of these layers."""
    gated = {name: module for name, module in model.named_modules() if isinstance(module, Gated)}
    closed = {name: "its gate is closed" for name, module in gated.items() if not module.executed}
    return closed | dict.fromkeys(skipping.skipped(model), "the strategy removed it")


def _channels(trial: _Trial, round_to: Rounding) -> list[str]:
    """Cut channels and hidden units until nothing more can go: each cut may make others possible. Return why some stay.

    All groups are cut at once; if that changes the outputs, one alone, and after each success twice as many. The
    network is traced anew each time, since a cut moves the indices of others. The loop ends, since every accepted cut
    leaves fewer channels or fewer nonzero weights, and no cut is tried again after it was refused alone.
    """
    refused: dict[str, str] = {}
    size = sys.maxsize
    while True:
        try:
            decided = list(_decide(trial, round_to))
        except probes.FAILS:
            return ["channels and hidden units stay: the network's operations cannot be followed, as in TorchScript"]
        cuts = [cut for cut, _ in decided if cut and cut.root not in refused]
        if not cuts:
            said = [*refused.values(), *(sentence for _, sentences in decided for sentence in sentences)]
            return list(dict.fromkeys(said))  # a layer may be in several groups
        cut, *others = cuts[:size]
        why = trial.attempt(partial(channel_cuts.apply, cuts=[cut, *others]))
        if why is None:
            size *= 2
        elif others:
            size = 1
        else:
            what = "hidden units" if isinstance(trial.model.get_submodule(cut.root), nn.RNNBase) else "channels"
            refused[cut.root] = f"{cut.root}: {what} that could go ({len(cut.units)}) stay: {why}"


def _decide(trial: _Trial, round_to: Rounding) -> Iterator[tuple[Cut, list[str]]]:
    """What each group of channels, and each recurrent layer, can lose, with sentences on what stays."""
    given, _ = probes.constants(trial.model, trial.example)
    links = channel_trace.trace(trial.model, trial.example)
    for group in channel_groups.find(trial.model, links):
        yield channel_cuts.decide(group, given, round_to)
    yield Cut(""), channel_groups.computed(trial.model)
    for name, rnn in _of_type(trial.model, nn.RNNBase):
        yield recurrent_units.decide(name, rnn, trial.model, links, round_to)


def _heads(trial: _Trial) -> list[str]:
    """Cut attention heads. Return why some stay."""
    kept = []
    for name, module in _of_type(trial.model, nn.MultiheadAttention):
        heads = attention_heads.fewer_heads(module)
        if heads is not None:
            why = heads if isinstance(heads, str) else trial.attempt(partial(_put, name=name, module=heads))
            kept += [f"{name}: its heads stay: {why}"] if why else []
    return kept


def _cells(trial: _Trial) -> list[str]:
    """Say that hidden units of single cells stay."""
    cells = _of_type(trial.model, nn.RNNCellBase)
    return [f"{name}: hidden units of {type(cell).__name__} are not compacted" for name, cell in cells]


def _constants(trial: _Trial) -> None:
    """Replace layers whose output is constant by that constant; whole residual branches go this way."""
    _, made = probes.constants(trial.model, trial.example)
    for name, values in made.items():
        module = trial.model.get_submodule(name)
        weight = module.weight if isinstance(module, LAYERS) else None
        depends = isinstance(weight, Tensor) and bool(weight.any())
        constant = constant_layer.like(module, values)
        if constant is not None and not depends and not bool(values.isnan().any()):
            trial.attempt(partial(_put, name=name, module=constant))


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    model.set_submodule(name, module)


def _of_type(model: nn.Module, kind: type[M]) -> list[tuple[str, M]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]


def _copy(model: nn.Module) -> nn.Module:
    """Return a deep copy; tensors with a graph that the model has kept are copied without it."""
    kept = [x for module in model.modules() for x in vars(module).values() if isinstance(x, Tensor) and x.grad_fn]
    return deepcopy(model, {id(x): x.detach().clone() for x in kept})


def _as_before(dense: nn.Module, small: nn.Module) -> nn.Module:
    """Give tensors the types of the dense network's, freeze those that are frozen there, and remove all gradients."""
    types = {name: x.dtype for name, x in (*dense.named_parameters(), *dense.named_buffers())}
    usual = next((kind for kind in types.values() if kind.is_floating_point), torch.get_default_dtype())
    frozen = {name for name, parameter in dense.named_parameters() if not parameter.requires_grad}
    for name, x in (*small.named_parameters(), *small.named_buffers()):
        if x.is_floating_point():
            x.data = x.data.to(types.get(name, usual))
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(name not in frozen)
        parameter.grad = None
    return in_one_piece(small)
