"""Several trainings as one: their networks have a leading axis on parameters, masks, optimizer states and options."""

import warnings
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from prunelab.data.dataset import Split
from prunelab.pruning import skipping
from prunelab.runtime.seeding import HostGenerators
from prunelab.training import batched_steps
from prunelab.training.batched_stack import Stack
from prunelab.training.cuda_graph import Graph, captured, capturing
from prunelab.training.loop import Training, one_by_one

CLOSE = 1e-4  # of the largest value: batched kernels add up in another order


@dataclass(frozen=True)
class Epoch:
    """The steps that one training waits for."""

    training: Training  # without callbacks
    order: Sequence[Tensor]  # the indices of the examples of each step
    structure: str  # what its network computes, apart from its tensors
    graph: bool = False  # whether the step is captured in a CUDA graph

    @property
    def kind(self) -> Hashable:
        """A key: epochs with equal keys can be trained together."""
        one, rule = self.training, batched_steps.rule_of(self.training.optimizer)
        assert rule is not None
        groups = [
            (len(group["params"]), *batched_steps.flags(rule, group).items()) for group in one.optimizer.param_groups
        ]
        data = (id(one.train.inputs), id(one.train.labels), one.spec.precision, torch.get_num_threads())
        lengths = tuple(len(index) for index in self.order)
        return (self.structure, self.graph, *skipping.skipped(one.model), *data, rule.kind, *groups, lengths)


def train(epochs: Sequence[Epoch], width: int, interrupt: Callable[[], None] = lambda: None) -> None:
    """Take the steps of epochs of one kind; afterwards each training is where its own steps would have brought it.

    Args:
        epochs: at most `width`.
        width: number of networks that are computed at once; those that are missing are copies of the first, so that
            the bits of a network do not depend on how many others there are.
        interrupt: called before each step; if it raises, all trainings are consistent.
    """
    first, stack, losses = epochs[0], Stack([epoch.training for epoch in epochs], width), list[Tensor]()
    orders, rates = zip(*(epoch.order for epoch in epochs), strict=True), stack.rates(len(first.order))
    step: Callable[..., Tensor] = Graph(stack.step, captured) if first.graph else stack.step
    try:
        with capturing(first.training.optimizer) if first.graph else nullcontext():
            for indices, rate in zip(orders, rates, strict=True):
                interrupt()
                losses.append(step(torch.stack([*indices, *indices[:1] * (width - len(epochs))]), rate))
    finally:
        stack.store(losses)


def why_not(make: Callable[[], Training], width: int) -> str | None:
    """Return why a training cannot be batched, by comparing one step alone with the same step batched; None: it can.

    Args:
        make: returns a new, equal training at each call.
    """
    alone, other = make(), make()
    if type(alone.train) is not Split:
        return f"its batches are made by {type(alone.train).__name__}"
    if batched_steps.rule_of(alone.optimizer) is None:
        return f"its optimizer is {type(alone.optimizer).__name__}; must be Adam, AdamW or SGD, and plain"
    parameters = dict(alone.model.named_parameters())
    if any(parameter.dtype != torch.float32 for parameter in parameters.values()):
        return "its parameters are not all float32"
    index = torch.arange(min(alone.spec.batch_size, len(alone.train), 8), device=alone.train.inputs.device)
    for one in (alone, other):
        one.model.train()
        one.position.begin_epoch(one.spec, 1, index.device)
    one_by_one(alone, [index])
    unused = [name for name, parameter in parameters.items() if parameter.grad is None]
    if unused:
        return f"{unused[0]} has no gradient"
    before, drawn = torch.get_rng_state(), HostGenerators.now()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "There is a performance drop")  # of a network after the other
            stack = Stack([other], width)
            losses = stack.step(index.expand(width, -1), stack.rates(1)[0])
        stack.store([losses])
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    if HostGenerators.now() != drawn or not torch.equal(before, torch.get_rng_state()):
        return "it draws random numbers in training"
    gradients = stack.first_gradients()
    expected = {name: parameters[name].grad for name in gradients} | dict(alone.model.named_buffers())
    found = gradients | dict(other.model.named_buffers())
    return next((f"{name} differs when batched" for name in expected if not _close(expected[name], found[name])), None)


def _close(one: Tensor | None, other: Tensor) -> bool:
    assert one is not None
    scale = max(float(one.abs().max()), 1e-6) if one.numel() else 1.0
    return torch.allclose(one.double(), other.double(), rtol=0, atol=CLOSE * scale)
