"""L0 regularization: gates on weights, channels or layers that learn to close during dense training."""

import math
from collections.abc import Iterator
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from prunelab.errors import ConfigError, check_number
from prunelab.pruning.mask_hooks import remove
from prunelab.pruning.masks import MaskedTensor
from prunelab.pruning.output_layers import output_layers
from prunelab.pruning.prunable import PRUNABLE_TYPES
from prunelab.pruning.units import input_dim
from prunelab.runtime.eval_mode import in_eval_mode
from prunelab.runtime.seeding import seeded
from prunelab.training.callbacks.base import LearnedPerTensor, Phase, check_strength

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1  # as in the paper
GRANULARITIES = ("weight", "channel", "neuron", "layer")


def sample(log_alpha: Tensor) -> Tensor:
    """Return one draw of each gate, in [0, 1]; both ends have a positive probability. Draws from torch's generator.

    z = min(1, max(0, s·(ζ − γ) + γ)) with s = σ((log u − log(1 − u) + log α) / β) and u uniform.

    Args:
        log_alpha: log α of each gate, of any shape.

    Source: Louizos, Welling & Kingma 2018, arXiv 1712.01312, eqs. 10 and 11.
    """
    noise = torch.rand_like(log_alpha).logit()
    return (torch.sigmoid((noise + log_alpha) / BETA) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def settled(log_alpha: Tensor) -> Tensor:
    """Return each gate's value in evaluation: min(1, max(0, σ(log α)·(ζ − γ) + γ)); 0 where log α ≤ −log 11.

    Source: ibid., eq. 13.
    """
    return (torch.sigmoid(log_alpha) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def probability(log_alpha: Tensor) -> Tensor:
    """Return P(z ≠ 0) = σ(log α − β·log(−γ/ζ)) of each gate. Source: ibid., eq. 12."""
    return torch.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))


class Gates:
    """The gates of one prunable tensor.

    The gate z of a channel or a layer multiplies the layer's output, z·(w·x + b), and so its weights and its bias. The
    gate of a single weight multiplies that weight, and the gate of a Linear layer's input that input: w·(z·x) + b.

    Args:
        item: the tensor.
        granularity: one gate per `weight`, per `channel` (index of dimension 0), per `neuron` (a channel of a Conv
            layer, an input of a Linear layer), or one for the `layer`.
        log_alpha: initial log α.
    """

    def __init__(self, item: MaskedTensor, granularity: str, log_alpha: float) -> None:
        self.item, self.on_weights, weight = item, granularity == "weight", item.parameter
        self.on_inputs = granularity == "neuron" and isinstance(item.module, nn.Linear)
        shape = {"weight": weight.shape, "layer": torch.Size([1])}.get(granularity, weight.shape[:1])
        shape = weight.shape[1:] if self.on_inputs else shape
        self.log_alpha = nn.Parameter(torch.full(shape, log_alpha, device=weight.device))
        self.behind = weight.numel() // self.log_alpha.numel()  # weights per gate

    def values(self) -> Tensor:
        """Return a draw in training mode, else the settled values."""
        return sample(self.log_alpha) if self.item.module.training else settled(self.log_alpha)

    def hook(self) -> RemovableHandle:
        """Put the gates to work, if they are not on single weights."""
        if self.on_inputs:
            return self.item.module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * self.values(),))
        return self.item.module.register_forward_hook(self.gate_output)

    def gate_output(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        """Return the layer's output times the gates; a forward hook."""
        places = getattr(module, "kernel_size", ())  # [n, channels, *places], or [n, channels] for a linear layer
        return output * self.values().view(-1, *(1 for _ in places))

    @torch.no_grad()
    def fold(self) -> None:
        """Multiply the settled gates into the weights, and gates on outputs into the bias, for good."""
        values, weight = settled(self.log_alpha), self.item.parameter
        if self.on_weights or self.on_inputs:
            weight.mul_(values)
            return
        weight.mul_(values.view(-1, *(1 for _ in weight.shape[1:])))
        bias = getattr(self.item.module, "bias", None)
        if isinstance(bias, Tensor):
            bias.mul_(values)


class L0(LearnedPerTensor):
    """Learn which weights, channels or layers can be zero: stochastic gates, and a cost of open gates.

    Adds strength · Σ P(z ≠ 0) · (weights per gate z) ÷ (all gated weights) to the loss. So the strength is the cost, in
    nats of cross-entropy, of a network whose gates are all open; the paper's λ/N per weight is strength ÷ weights.

    After training the gates are multiplied into the weights, so closed gates leave exact zeros in a plain network.
    `strategy=threshold allocation.threshold=0` prunes these zeros; with `granularity=channel` their biases too.

    Use it if training itself is to find which weights or channels are needed, without an amount.

    Args:
        strength: ≥ 0.
        granularity: `weight`, `channel` (an output channel of a Conv or Linear layer with its bias; the output layer,
            whose channels are the classes, has no gates), `neuron` (as in the paper: an output channel of a Conv layer
            with its bias, an input of a Linear layer, also of the output layer) or `layer` (with its bias).
        droprate_init: initial 1 − σ(log α), in (0, 1).
        lr: learning rate of the gates, > 0, chosen for Adam, which moves a gate by about `lr` per step. SGD needs a
            much larger one.

    Raises:
        ConfigError: if a value is outside its range, a tensor cannot have such gates, or there is no dense training.

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
        if granularity not in GRANULARITIES:
            raise ConfigError(f"regularizer.granularity={granularity}: must be {' or '.join(GRANULARITIES)}")
        self.strength = strength
        start = math.log(1 - droprate_init) - math.log(droprate_init)
        self.gates = [Gates(item, granularity, start) for item in _gated(phase, granularity)]
        if not self.gates:
            raise ConfigError(f"regularizer.granularity={granularity}: the only layer is the output layer")
        super().__init__(phase, {gates.item.name: gates.log_alpha for gates in self.gates}, lr)
        self.size = sum(gates.item.parameter.numel() for gates in self.gates)
        self.working = [gates for gates in self.gates if gates.on_weights]
        self.handles = [gates.hook() for gates in self.gates if not gates.on_weights]

    def substitutes(self) -> dict[str, Tensor]:
        """Return the gated weights, if each weight has a gate."""
        return {gates.item.name: gates.item.parameter * gates.values() for gates in self.working}

    def objective(self, loss: Tensor, inputs: Tensor, logits: Tensor) -> Tensor:
        """Add strength · the fraction of weights expected to be nonzero."""
        expected = torch.stack([probability(gates.log_alpha).sum() * gates.behind for gates in self.gates]).sum()
        return loss + self.strength * expected / self.size

    def finish(self) -> None:
        """Multiply the gates into the weights and remove them."""
        self.working = []
        remove(self.handles)
        for gates in self.gates:
            gates.fold()
        self.masks.apply()


def _gated(phase: Phase, granularity: str) -> Iterator[MaskedTensor]:
    """Yield the tensors that get gates; raise ConfigError if one cannot have such gates."""
    items = phase.masked()
    if granularity == "weight":
        yield from items
        return
    weights = {item.module for item in items if item.key == "weight"}
    called = _called(phase)
    with seeded(phase.seed, "gates"):
        last = output_layers(phase.model, phase.batch(1)[0][:1])
    for item in items:
        if item.key == "bias" and item.module in weights:
            continue  # gates on the layer's output multiply its bias too
        gateable = isinstance(item.module, PRUNABLE_TYPES) and input_dim(item.module) == 1
        if not gateable or item.key != "weight" or item.module not in called:
            raise ConfigError(
                f"regularizer.granularity={granularity}: must be weight for {item.name} of "
                f"{type(item.module).__name__}; only weights of Conv and Linear layers that are called can have gates "
                "on their outputs; prune.exclude leaves a tensor out"
            )
        on_inputs = granularity == "neuron" and isinstance(item.module, nn.Linear)
        if granularity == "layer" or on_inputs or item.name.rpartition(".")[0] not in last:
            yield item


def _called(phase: Phase) -> set[nn.Module]:
    """Return the modules that a forward pass calls. Attention reads the weights of its `out_proj` without a call."""
    called: set[nn.Module] = set()
    with ExitStack() as hooks, torch.no_grad(), seeded(phase.seed, "gates"), in_eval_mode(phase.model):
        for module in phase.model.modules():
            hooks.enter_context(module.register_forward_hook(lambda module, *_: called.add(module)))
        phase.model(phase.batch(1)[0][:2])
    return called
