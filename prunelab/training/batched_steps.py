"""Optimizer steps of many networks at once, on tensors [networks, parameters]; each has its own options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Options = Mapping[str, Tensor]  # float64 [networks, 1]
State = dict[str, Tensor]  # [networks, parameters]; `step`: float64 [networks, 1]


@dataclass(frozen=True)
class Rule:
    """How a kind of optimizer steps; `step(weights, gradient, state, options, flags)` changes weights and state."""

    kind: type[Optimizer]  # of `torch.optim`
    numbers: tuple[str, ...]  # the options that each network has of its own
    flags: tuple[str, ...]  # the options that all of them must have in common
    unsupported: tuple[str, ...]  # flags that must not be set
    state: tuple[str, ...]  # the tensors that the optimizer keeps for each parameter
    step: Callable[[Tensor, Tensor, State, Options, Mapping[str, Any]], None]


def adam(weights: Tensor, gradient: Tensor, state: State, options: Options, flags: Mapping[str, Any]) -> None:
    """Step as Adam, or, with decoupled decay, as AdamW.

    Source: Kingma & Ba 2015, algorithm 1, arXiv 1412.6980; Loshchilov & Hutter 2019, algorithm 2, arXiv 1711.05101.
    """
    lr, decay, beta1, beta2 = (options[key] for key in ("lr", "weight_decay", "beta1", "beta2"))
    if flags["decoupled_weight_decay"]:
        weights.mul_((1 - lr * decay).to(weights))
    else:
        gradient = gradient + decay.to(weights) * weights
    state["exp_avg"].lerp_(gradient, (1 - beta1).to(weights))
    state["exp_avg_sq"].mul_(beta2.to(weights)).addcmul_(gradient, gradient * (1 - beta2).to(weights))
    size = lr / (1 - beta1 ** state["step"])
    root = (1 - beta2 ** state["step"]).sqrt()
    spread = (state["exp_avg_sq"].sqrt() / root.to(weights)).add_(options["eps"].to(weights))
    weights.sub_(size.to(weights) * (state["exp_avg"] / spread))


def sgd(weights: Tensor, gradient: Tensor, state: State, options: Options, flags: Mapping[str, Any]) -> None:
    """Step as SGD with momentum: the first momentum is the gradient. See `torch.optim.SGD`."""
    gradient = gradient + options["weight_decay"].to(weights) * weights
    if flags["momentum"]:
        momentum, kept = options["momentum"].to(weights), (1 - options["dampening"]).to(weights)
        buffer = state["momentum_buffer"]
        buffer.copy_(torch.where(state["step"] == 1, gradient, momentum * buffer + kept * gradient))
        gradient = gradient + momentum * buffer if flags["nesterov"] else buffer
    weights.sub_(options["lr"].to(weights) * gradient)


ADAM = Rule(
    torch.optim.Adam,
    ("lr", "weight_decay", "beta1", "beta2", "eps"),
    ("decoupled_weight_decay",),
    ("amsgrad", "maximize", "differentiable"),
    ("exp_avg", "exp_avg_sq"),
    adam,
)
SGD = Rule(
    torch.optim.SGD,
    ("lr", "weight_decay", "momentum", "dampening"),
    ("nesterov", "momentum"),
    ("maximize", "differentiable"),
    ("momentum_buffer",),
    sgd,
)
KNOWN = {torch.optim.Adam: ADAM, torch.optim.AdamW: ADAM, torch.optim.SGD: SGD}


def rule_of(optimizer: Optimizer) -> Rule | None:
    """Return how an optimizer steps; None if its class or an option is not known here."""
    # Not isinstance: a user's subclass steps in its own way. See `optimizers.without_compiler`.
    kind = type(optimizer)
    kinds = {kind, *(kind.__bases__ if kind.__module__.startswith("prunelab.") else ())}
    rule = next((KNOWN[kind] for kind in kinds if kind in KNOWN), None)
    if rule is None or any(group.get(name) for group in optimizer.param_groups for name in rule.unsupported):
        return None
    return rule


def numbers(group: Mapping[str, Any]) -> dict[str, float]:
    """Return the numeric options of an optimizer's group by name, with `betas` as `beta1` and `beta2`."""
    betas = group.get("betas", ())
    found = {f"beta{number}": value for number, value in enumerate(betas, 1)} | dict(group)
    return {key: float(value) for key, value in found.items() if isinstance(value, (int, float, Tensor))}


def flags(rule: Rule, group: Mapping[str, Any]) -> dict[str, bool]:
    """Return the options of a group that networks which are stepped together have in common."""
    return {name: bool(group.get(name)) for name in rule.flags}
