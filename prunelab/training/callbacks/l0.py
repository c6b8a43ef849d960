"""An L0 penalty: gates in front of weights, channels or layers, which learn to close while the network is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunelab.config.schema import ConfigError
from prunelab.pruning import masks
from prunelab.training.callbacks.base import Phase, check_number, check_strength
from prunelab.training.loop import Routine

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1  # the paper's
GRANULARITIES = ("weight", "channel", "layer")


def sample(log_alpha: Tensor) -> Tensor:
    """One draw of each gate, in [0, 1], with the probability of 0 and of 1 above nil. Draws from torch's generator.

    z = min(1, max(0, s·(ζ − γ) + γ)) with s = σ((log u − log(1 − u) + log α) / β), u uniform.

    Source: Louizos, Welling & Kingma 2018, arXiv 1712.01312, eqs. 10 and 11.
    """
    noise = torch.rand_like(log_alpha).logit()
    return (torch.sigmoid((noise + log_alpha) / BETA) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def settled(log_alpha: Tensor) -> Tensor:
    """Each gate after training: min(1, max(0, σ(log α)·(ζ − γ) + γ)); 0 where log α ≤ −log 11.

    Source: ibid., eq. 13.
    """
    return (torch.sigmoid(log_alpha) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def probability(log_alpha: Tensor) -> Tensor:
    """P(z ≠ 0) = σ(log α − β·log(−γ/ζ)). Source: ibid., eq. 12."""
    return torch.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))


class Gates:
    """The gates of one prunable tensor.

    A gate of a channel or layer multiplies what the layer gives, which is the same as gating its weights and its bias:
    z·(w·x + b). A gate of a weight multiplies that weight, after torch.nn.utils.prune's own hook has masked it.

    Args:
        granularity: a gate for each `weight`, for each `channel` (index of dimension 0), or for the `layer`.
        log_alpha: where they start.
    """

    def __init__(self, item: masks.Masked, granularity: str, log_alpha: float) -> None:
        self.item, self.on_weights = item, granularity == "weight"
        shape = {"weight": item.original.shape, "channel": item.original.shape[:1], "layer": (1,)}[granularity]
        self.log_alpha = nn.Parameter(torch.full(shape, log_alpha, device=item.original.device))
        self.behind = item.original.numel() // self.log_alpha.numel()  # weights behind each gate

    def attach(self, model: nn.Module) -> RemovableHandle:
        """Puts the gates to work until the handle is removed."""
        if self.on_weights:
            return _caller(model, self.item.module).register_forward_pre_hook(self._on_weight)
        return self.item.module.register_forward_hook(self._on_output)

    def values(self) -> Tensor:
        """A draw in training, else what the gates have settled at."""
        return sample(self.log_alpha) if self.item.module.training else settled(self.log_alpha)

    def _on_weight(self, *_: object) -> None:
        module, name = self.item.module, self.item.parameter
        setattr(module, name, getattr(module, name) * self.values())

    def _on_output(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        places = getattr(module, "kernel_size", ())  # [n, channels, *places], or [n, channels] of a linear layer
        return output * self.values().view(-1, *(1 for _ in places))

    @torch.no_grad()
    def fold(self) -> None:
        """Multiplies the gates into the weights, and into the bias that is behind them, for good."""
        values, weight = settled(self.log_alpha), self.item.original
        if self.on_weights:
            weight.mul_(values)
            return
        weight.mul_(values.view(-1, *(1 for _ in weight.shape[1:])))
        bias = getattr(self.item.module, "bias_orig", getattr(self.item.module, "bias", None))
        if isinstance(bias, Tensor):
            bias.mul_(values)


class L0(Routine):
    """Learns which weights, channels or layers may be zero: stochastic gates, and a price on those that are open.

    Adds strength · Σ P(z ≠ 0) · (weights behind z) ÷ (all weights behind gates) to the loss: the strength is the price,
    in nats of cross-entropy, of a network whose gates are all open. The paper's λ/N per weight is strength ÷ weights.

    When training is over the gates are multiplied into the weights, so that closed ones leave exact zeros in a plain
    network; `strategy=threshold strategy.threshold=0` (for channels `strategy.granularity=channel`, which takes their
    biases) prunes these for good.

    Args:
        strength: ≥ 0.
        granularity: `weight`, `channel` (an output channel of Conv or Linear with its bias; the output layer, whose
            channels are the classes, has no gates) or `layer` (a weight of Conv or Linear with its bias).
        droprate_init: 1 − σ(log α) at the start, in (0, 1).
        lr: of the gates, > 0; Adam moves a gate by about so much in a step. `optimizer=sgd` needs a far larger one.

    Raises:
        ConfigError: for a value outside its range, a tensor that cannot have such gates, or without dense training.

    Source: Louizos, Welling & Kingma 2018, "Learning sparse neural networks through L0 regularization",
    arXiv 1712.01312, eqs. 9 to 13.
    """

    def __init__(
        self,
        phase: Phase,
        strength: float = 1.0,
        granularity: str = "weight",
        droprate_init: float = 0.5,
        lr: float = 0.01,
    ) -> None:
        check_strength(phase, "l0", strength)
        check_number("regularizer.droprate_init", droprate_init, "a number in (0, 1)", lambda p: 0 < p < 1)
        check_number("regularizer.lr", lr, "a number > 0", lambda x: x > 0)
        if granularity not in GRANULARITIES:
            raise ConfigError(f"regularizer.granularity={granularity}: must be {' or '.join(GRANULARITIES)}")
        self.strength, self.lr = strength, lr
        start = math.log(1 - droprate_init) - math.log(droprate_init)
        self.model, self.gates = phase.model, [Gates(item, granularity, start) for item in _gated(phase, granularity)]
        if not self.gates:
            raise ConfigError(f"regularizer.granularity={granularity}: there is nothing but the output layer")
        self.handles = [gates.attach(phase.model) for gates in self.gates]

    def parameters(self) -> dict[str, Any]:
        """log α of all gates, with their own learning rate and no weight decay, which would hold them half open."""
        return {"params": [gates.log_alpha for gates in self.gates], "lr": self.lr, "weight_decay": 0.0}

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Adds strength · the share of weights expected to be nonzero."""
        expected = torch.stack([probability(gates.log_alpha).sum() * gates.behind for gates in self.gates]).sum()
        return loss + self.strength * expected / sum(gates.item.original.numel() for gates in self.gates)

    def state(self) -> dict[str, Tensor]:
        """log α, by the tensors' names."""
        return {gates.item.name: gates.log_alpha.detach().cpu() for gates in self.gates}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Takes log α back."""
        for gates in self.gates:
            gates.log_alpha.copy_(state[gates.item.name])

    def finish(self) -> None:
        """Multiplies the gates into the weights and takes them off."""
        for handle, gates in zip(self.handles, self.gates, strict=True):
            handle.remove()
            gates.fold()
        masks.refresh(self.model)


def _gated(phase: Phase, granularity: str) -> Iterator[masks.Masked]:
    """The tensors that get gates.

    Raises:
        ConfigError: for a tensor that cannot have such gates.
    """
    wanted = {(id(module), name) for module, name in phase.parameters}
    for item in masks.masked_of(phase.model, phase.parameters):
        if granularity == "weight":
            yield item
            continue
        if item.parameter == "bias" and (id(item.module), "weight") in wanted:
            continue  # it is behind the gates of its weight
        _check_called(phase.model, item, granularity)
        if granularity == "layer" or item.name.rpartition(".")[0] != masks.output_layer(phase.model):
            yield item


def _check_called(model: nn.Module, item: masks.Masked, granularity: str) -> None:
    """Such a gate needs a layer that is called, and that gives one channel for each row of its weight."""
    module = item.module
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    plain = isinstance(module, masks.PRUNABLE_TYPES) and item.parameter == "weight" and not transposed
    if not plain or _caller(model, module) is not module:
        raise ConfigError(
            f"regularizer.granularity={granularity}: {item.name} of {type(module).__name__} cannot have such a gate, "
            "only weights of Conv and Linear layers that are called themselves can; prune.exclude leaves it out"
        )


def _caller(model: nn.Module, module: nn.Module) -> nn.Module:
    """The module whose call computes with the weights of `module`: itself, or an attention layer that reads them."""
    for parent in model.modules():
        for kind in type(parent).__mro__:
            if any(getattr(parent, name, None) is module for name in masks.READ_DIRECTLY.get(kind.__name__, ())):
                return parent
    return module
