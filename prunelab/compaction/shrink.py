"""Compaction itself: make a removal, check that the outputs stay as they are, undo it if they do not, go on."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from torch import Tensor, nn

from prunelab.compaction import attention_heads, channel_cuts, channel_groups, constant_layer, lstm_units, probes
from prunelab.compaction.channel_cuts import Cut
from prunelab.compaction.compacted import Compacted, describe
from prunelab.compaction.proof import full_precision, prove
from prunelab.pruning import skipping
from prunelab.pruning.gated import Gated
from prunelab.runtime.recurrent import in_one_piece

FAILS = (RuntimeError, ValueError, TypeError, AssertionError, LookupError, AttributeError, ArithmeticError)
EXAMPLES = 4  # of the given batch; more would take longer and find nothing else
M = TypeVar("M", bound=nn.Module)
NOTHING = "nothing can be removed: no whole channel, neuron, hidden unit or attention head is zero or unread"


@full_precision()
def compact(model: nn.Module, example: Tensor, round_to: int = 1) -> Compacted:
    """Remove channels, neurons, LSTM units, attention heads and layers that do nothing, and keep the function.

    Each removal is tried in float64 and undone if the outputs on random inputs change. BatchNorm and dropout are taken
    as they are in eval mode. The model itself stays as it is.

    Args:
        model: pruned weights are zero; it takes one tensor and returns one.
        example: a batch of inputs, [n, …], on the model's device.
        round_to: leave a multiple of this many channels in each convolution, where enough channels can stay. Kernels
            process several channels at a time: pooling in `channels_last` is slower on 3 channels than on 4.

    Raises:
        ConfigError: if torch-pruning is not installed.
        ValueError: if the model's output is not one tensor.
    """
    channel_groups.need_torch_pruning()
    dense = in_one_piece(deepcopy(model)).eval()
    dense.zero_grad(set_to_none=True)
    inputs = probes.probes(example[:EXAMPLES])
    before = probes.outputs(dense, inputs)
    if not all(isinstance(x, Tensor) for x in before):
        raise ValueError(f"model={type(model).__name__}: its output must be one tensor")
    trial = _trial(dense, inputs, before)
    kept = _layers(trial) + _channels(trial, round_to) + _heads(trial) + _units(trial)
    _constants(trial)
    small = trial.model.to(before[0].dtype)
    _freeze_like(dense, small)
    proof = prove(dense, small, inputs, double=False)
    if not probes.agree(before, probes.outputs(small, inputs)):
        why = f"the compact network's output is {proof.largest_difference:.2g} off"
        return Compacted(dense, [], [why, *kept], prove(dense, dense, inputs, double=False))
    removed = describe(dense, small, _not_run(dense))
    return Compacted(small, removed, kept or ([] if removed else [NOTHING]), proof)


@dataclass
class _Trial:
    """The network so far, and the outputs that it must keep; the last of the inputs is the example."""

    model: nn.Module
    inputs: list[Tensor]
    expected: list[Tensor]

    @property
    def example(self) -> Tensor:
        return self.inputs[-1]

    def attempt(self, change: Callable[[nn.Module], None]) -> str | None:
        """Make a change. If the outputs change too, undo it and return why it is not possible."""
        candidate = in_one_piece(deepcopy(self.model))
        try:
            change(candidate)
            found = probes.outputs(in_one_piece(candidate), self.inputs)
        except FAILS as error:
            return f"the network does not run without them ({_first_line(error)})"
        if [x.shape for x in found] != [x.shape for x in self.expected]:
            return "they are part of the network's output"
        if not probes.agree(self.expected, found):
            return f"without them the output moves by {probes.largest_difference(self.expected, found):.2g}"
        self.model = candidate
        return None


def _trial(dense: nn.Module, inputs: list[Tensor], outputs: list[Tensor]) -> _Trial:
    """In float64, where a rounding error is not mistaken for a difference, if the model runs there."""
    model = deepcopy(dense)
    try:
        double = [probes.double(x) for x in inputs]
        return _Trial(model.double(), double, probes.outputs(model, double))
    except FAILS:
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


def _channels(trial: _Trial, round_to: int) -> list[str]:
    """Cut channels until nothing more can go: each cut may make others possible. Return why some stay.

    The loop ends, since every accepted cut leaves fewer channels or fewer nonzero weights, and no cut is tried again
    after it was refused.
    """
    refused: dict[str, str] = {}
    while True:
        given, _ = probes.constants(trial.model, trial.example)
        try:
            groups = channel_groups.groups(trial.model, trial.example)
        except FAILS as error:
            return [f"channels: torch-pruning cannot follow this network: {_first_line(error)}"]
        decided = [channel_cuts.decide(group, given, round_to) for group in groups]
        cuts = [cut for cut, _ in decided if cut and cut.root not in refused]
        if not cuts:
            said = [*refused.values(), *(sentence for _, sentences in decided for sentence in sentences)]
            return list(dict.fromkeys(said))  # a layer may be in several groups
        if trial.attempt(partial(_cut_all, example=trial.example, cuts=cuts)):
            for cut in cuts:  # find those that change the outputs
                why = trial.attempt(partial(_cut_all, example=trial.example, cuts=[cut]))
                if why is not None:
                    refused[cut.root] = f"{cut.root}: channels that could go ({len(cut.units)}) stay: {why}"


def _cut_all(model: nn.Module, example: Tensor, cuts: list[Cut]) -> None:
    for cut in cuts:
        channel_cuts.prepare(model, cut)
    for cut in cuts:
        if cut.units:
            channel_groups.cut(model, example, cut.root, cut.units)


def _heads(trial: _Trial) -> list[str]:
    """Cut attention heads. Return why some stay."""
    kept = []
    for name, module in _of_type(trial.model, nn.MultiheadAttention):
        heads = attention_heads.fewer_heads(module)
        if heads is not None:
            why = heads if isinstance(heads, str) else trial.attempt(partial(_put, name=name, module=heads))
            kept += [f"{name}: its heads stay: {why}"] if why else []
    return kept


def _units(trial: _Trial) -> list[str]:
    """Cut hidden units of LSTMs. Return why some stay."""
    others = [name for kind in (nn.GRU, nn.RNN) for name, _ in _of_type(trial.model, kind)]
    kept = [f"{name}: hidden units of anything but an LSTM are not compacted" for name in others]
    for name, _ in _of_type(trial.model, nn.LSTM):
        said: list[str] = []
        why = trial.attempt(partial(_cut_units, example=trial.example, name=name, said=said))
        kept += [f"{name}: its hidden units stay: {why}"] if why else said
    return kept


def _cut_units(model: nn.Module, example: Tensor, name: str, said: list[str]) -> None:
    sentence = lstm_units.cut_units(model, example, name)
    said += [sentence] if sentence else []


def _constants(trial: _Trial) -> None:
    """Replace layers whose output is constant by that constant; whole residual branches go this way."""
    _, made = probes.constants(trial.model, trial.example)
    for name, values in made.items():
        module = trial.model.get_submodule(name)
        weight = module.weight if isinstance(module, probes.LAYERS) else None
        depends = isinstance(weight, Tensor) and bool(weight.any())
        if constant_layer.can_replace(module) and not depends and not bool(values.isnan().any()):
            trial.attempt(partial(_put, name=name, module=constant_layer.like(module, values)))


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    model.set_submodule(name, module)


def _of_type(model: nn.Module, kind: type[M]) -> list[tuple[str, M]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]


def _freeze_like(dense: nn.Module, small: nn.Module) -> None:
    """Freeze the parameters that are frozen in the dense network, and remove all gradients."""
    frozen = {name for name, parameter in dense.named_parameters() if not parameter.requires_grad}
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(name not in frozen)
        parameter.grad = None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
