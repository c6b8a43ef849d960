"""The networks of several trainings as tensors with a leading axis, on which all of them take a step at once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

from prunelab.pruning.masks import enforced
from prunelab.training import batched_steps
from prunelab.training.batched_steps import Rule
from prunelab.training.forward import forward
from prunelab.training.loop import Training


class Stack:
    """The networks of several trainings as tensors with a leading axis.

    Args:
        trainings: of one kind, see `batched_fit.Epoch`; at most `width`.
        width: number of networks; those that are missing are copies of the first.

    Attributes:
        gradients: of the last step, for each group of parameters, [networks, parameters].
    """

    def __init__(self, trainings: Sequence[Training], width: int) -> None:
        self.trainings = trainings
        slots = [*trainings, *[trainings[0]] * (width - len(trainings))]
        first = self.first = trainings[0]
        rule = batched_steps.rule_of(first.optimizer)
        assert rule is not None
        self.slots, self.gradients = slots, tuple[Tensor, ...]()
        self.groups = [Group(slots, number, rule) for number in range(len(first.optimizer.param_groups))]
        tensors, trained = [_tensors(slot.model) for slot in slots], {name for g in self.groups for name in g.names}
        self.fixed = {
            name: torch.stack([some[name].detach() for some in tensors]) for name in tensors[0] if name not in trained
        }

    def rates(self, steps: int) -> Tensor:
        """Return the learning rates of the steps to come, float64 [steps, networks, groups]."""
        found = [[_rates(slot, step) for slot in self.slots] for step in range(steps)]
        return torch.tensor(found, dtype=torch.float64).to(self.first.train.inputs.device)

    def step(self, index: Tensor, rates: Tensor) -> Tensor:
        """Take a step of every network; return their losses, [networks].

        Args:
            index: the examples, [networks, batch].
            rates: the learning rates, [networks, groups].
        """
        inputs, labels = self.first.train.batch(index.flatten())
        weights = [group.weights.requires_grad_() for group in self.groups]
        trained = {name: tensor for group in self.groups for name, tensor in group.tensors(group.weights).items()}
        with _AnyLayout():
            logits = vmap(self._forward)(trained | self.fixed, inputs.unflatten(0, index.shape))
        every = F.cross_entropy(logits.flatten(0, 1), labels, reduction="none").view(index.shape)
        losses = every.mean(1)  # [networks]
        self.gradients = torch.autograd.grad(losses.sum(), weights)
        for number, (group, gradient) in enumerate(zip(self.groups, self.gradients, strict=True)):
            group.step(gradient, rates[:, number].unsqueeze(1))
        return losses.detach()

    def first_gradients(self) -> dict[str, Tensor]:
        """Return the gradients of the first network in the last step, by name."""
        pairs = zip(self.groups, self.gradients, strict=True)
        return {name: tensor[0] for group, gradient in pairs for name, tensor in group.tensors(gradient).items()}

    def _forward(self, tensors: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return forward(lambda x: functional_call(self.first.model, tensors, (x,)), inputs, self.first.spec.precision)

    @torch.no_grad()
    def store(self, losses: Sequence[Tensor]) -> None:
        """Write networks, optimizer states and positions back into the trainings.

        Args:
            losses: of the steps that were taken, each [networks].
        """
        taken, every = len(losses), torch.stack([*losses]) if losses else torch.empty(0)  # [steps, networks]
        for slot, training in enumerate(self.trainings):
            for name, tensor in _tensors(training.model).items():
                if name in self.fixed:
                    tensor.copy_(self.fixed[name][slot])
            for group in self.groups:
                group.store(slot, training)
            position = training.position
            training.set_lr(training.done + max(taken - 1, 0))
            if losses and position.losses is not None:
                position.losses[position.batch : position.batch + taken] = every[:, slot]
            position.batch += taken


class Group:
    """A group of the optimizers' parameters, with masks, states and options: tensors [networks, parameters]."""

    def __init__(self, slots: Sequence[Training], number: int, rule: Rule) -> None:
        self.number, self.rule = number, rule
        given = [slot.optimizer.param_groups[number] for slot in slots]
        parameters: list[list[nn.Parameter]] = [group["params"] for group in given]
        names = {id(parameter): name for name, parameter in slots[0].model.named_parameters()}
        self.names, self.shapes = [names[id(one)] for one in parameters[0]], [one.shape for one in parameters[0]]
        self.weights = torch.stack([_flat(some) for some in parameters])
        masks = [enforced(slot.model) for slot in slots]
        masked = any(name in found for found in masks for name in self.names)
        named = list(zip(self.names, parameters[0], strict=True))
        kept = [_flat(found.get(name, torch.ones_like(one)) for name, one in named) for found in masks]
        self.mask = torch.stack(kept) if masked else None
        self.flags = batched_steps.flags(rule, given[0])
        options = [batched_steps.numbers(group) for group in given]
        self.options = {key: self._column([one[key] for one in options]) for key in rule.numbers}
        states = [[slot.optimizer.state.get(p, {}) for p in some] for slot, some in zip(slots, parameters, strict=True)]
        self.state = {
            key: torch.stack([self._state(key, some, parameters[0]) for some in states]) for key in rule.state
        }
        self.state["step"] = self._column([float(some[0].get("step", bool(some[0]))) for some in states])

    def tensors(self, flat: Tensor) -> dict[str, Tensor]:
        """Return values of all parameters by name: views of their shapes, behind the leading axes of `flat`."""
        parts = flat.split([shape.numel() for shape in self.shapes], -1)
        named = zip(self.names, parts, self.shapes, strict=True)
        return {name: part.reshape(*flat.shape[:-1], *shape) for name, part, shape in named}

    @torch.no_grad()
    def step(self, gradient: Tensor, lr: Tensor) -> None:
        """Take a step, with the masks before and after it as `Masks` has them."""
        weights = self.weights.detach()
        self.state["step"] += 1
        self.options["lr"] = lr
        masked = gradient if self.mask is None else gradient * self.mask
        self.rule.step(weights, masked, self.state, self.options, self.flags)
        if self.mask is not None:
            weights.mul_(self.mask)

    def store(self, slot: int, training: Training) -> None:
        """Write one network's parameters and states back."""
        weights = self.tensors(self.weights.detach()[slot])
        states = {key: self.tensors(self.state[key][slot].clone()) for key in self.rule.state}
        for name, parameter in zip(self.names, training.optimizer.param_groups[self.number]["params"], strict=True):
            parameter.copy_(weights[name])
            found = {key: state[name] for key, state in states.items()}
            training.optimizer.state[parameter] = found | {"step": self.state["step"][slot, 0].float()}

    def _state(self, key: str, states: Sequence[Mapping[str, Any]], like: Sequence[Tensor]) -> Tensor:
        given = (state.get(key) for state in states)
        return _flat(torch.zeros_like(p) if one is None else one for one, p in zip(given, like, strict=True))

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.weights.device).unsqueeze(1)


class _AnyLayout(TorchFunctionMode):
    """Ignores `memory_format`, which changes no value, and which `vmap` does not know."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch."""
        kwargs = dict(kwargs or {})
        if kwargs.pop("memory_format", None) is not None and len(args) == 1 and not kwargs:
            return args[0]
        return function(*args, **kwargs)


def _rates(training: Training, step: int) -> list[float]:
    """Return the learning rates of a training's groups in a step to come, from 0."""
    training.set_lr(training.done + step)
    return [float(group["lr"]) for group in training.optimizer.param_groups]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
