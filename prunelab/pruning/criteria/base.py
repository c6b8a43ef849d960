"""What a criterion sees, and the derivatives that several criteria share.

A criterion is one function `criterion(evidence, **options)`, or a `Criterion`, that returns a score ≥ 0 for each
prunable weight; the smallest scores are pruned. It may change `evidence.model`, which is a copy.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import cached_property

import torch
import torch.backends.mha
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from prunelab.errors import ConfigError, at_least_one, one_line
from prunelab.pruning.masks import MaskedTensor, Masks
from prunelab.runtime.recurrent import in_one_piece

Scores = list[Tensor]
Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
Batches = Callable[[int], Iterable[Batch]]


class Evidence:
    """What a criterion may look at. Each list has one entry per prunable tensor, in the model's order, of its shape.

    Attributes:
        names: the tensors' names, such as `conv1.weight`.
        values: the present weights, detached; zero where pruned. Read-only.
        masks: bool, False where a weight is pruned already.
        shape: shape of one example, without the batch dimension; empty if unknown.
        loss: a function of outputs and labels that gives the mean loss of a batch; cross-entropy by default.
    """

    def __init__(
        self,
        model: nn.Module,
        items: Sequence[MaskedTensor],
        *,
        initial: Mapping[str, Tensor] | None = None,
        batches: Batches | None = None,
        shape: Sequence[int] = (),
        loss: Loss = F.cross_entropy,
    ) -> None:
        self._model, self._initial, self._batches = model, initial, batches
        self.names = [item.name for item in items]
        self.values = [item.parameter.detach() for item in items]
        self.masks = [item.kept for item in items]
        self.shape, self.loss = tuple(shape), loss

    @cached_property
    def model(self) -> nn.Module:
        """A copy of the model in eval mode, which the criterion may change; pruned weights are zero."""
        copy = in_one_piece(deepcopy(self._model)).eval()
        copy.zero_grad(set_to_none=True)
        return copy

    @cached_property
    def weights(self) -> list[nn.Parameter]:
        """The prunable parameters of `model`, the copy."""
        copied = dict(self.model.named_parameters())
        return [copied[name] for name in self.names]

    @property
    def initial(self) -> list[Tensor]:
        """The weights before any training. Raises ConfigError if they are not known."""
        if self._initial is None:
            raise ConfigError("criterion: needs the initial weights; give Pruner(initial=...) a copy of the state dict")
        return [self._initial[name].to(value.device) for name, value in zip(self.names, self.values, strict=True)]

    def batches(self, examples: int) -> Iterable[Batch]:
        """Return batches of inputs and labels from the pruner's `data`; in an experiment, from the training split.

        Args:
            examples: number of examples in all batches together, ≥ 1.

        Raises:
            ConfigError: if `examples` is out of range, or if there are no data.
        """
        at_least_one("criterion.examples", examples)
        if self._batches is None:
            raise ConfigError(
                "the criterion, or reconstruct, needs training data; give Pruner(data=...) batches of inputs and labels"
            )
        return self._batches(examples)


Score = Callable[[Evidence], Scores]


def as_batches(data: Iterable[Batch] | Batches | None, device: torch.device) -> Batches | None:
    """Return a function from a number of examples to such batches on a device, unless `data` is one; None: no data."""
    if data is None or not isinstance(data, Iterable):
        return data

    def batches(examples: int) -> Iterator[Batch]:
        left = examples
        for batch in data:
            yield batch[0][:left].to(device), batch[1][:left].to(device)
            left -= len(batch[0])
            if left <= 0:
                return
        if left == examples:
            raise ConfigError("data: has no batches left; must give them anew at each call, as a DataLoader does")

    return batches


class Criterion:
    """A criterion with a state of its own, such as what it records while the network is trained."""

    needs_initial = False  # whether it compares weights with those before training

    def __call__(self, evidence: Evidence) -> Scores:
        """Return a score ≥ 0 for each prunable weight."""
        raise TypeError(f"{type(self).__name__} must define __call__(evidence)")

    def attach(self, masks: Masks) -> None:
        """Begin to record; called once with the masks of the model."""

    def state(self) -> dict[str, Tensor]:
        """Return the recorded tensors, for a checkpoint."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; an empty state starts a new recording."""

    def detach(self) -> None:
        """Stop recording."""


def shifted(scores: Sequence[Tensor]) -> Scores:
    """Return scores of any sign minus the smallest of all, so that they are ≥ 0 and their differences stay."""
    least = min(float(score.min()) for score in scores)
    return [score - least for score in scores]


def above_zero(scores: Sequence[Tensor], masks: Sequence[Tensor]) -> Scores:
    """Return scores plus the smallest positive one, and 0 where pruned, so that pruned weights rank first; float64."""
    positive = [score[score > 0] for score in scores]
    least = min((float(some.min()) for some in positive if some.numel()), default=1.0)
    return [(exact(score) + least) * mask.to(score.device) for score, mask in zip(scores, masks, strict=True)]


def exact(tensor: Tensor) -> Tensor:
    """Return the values in float64, in which close scores stay distinct; on MPS, which has none, in their own type."""
    return tensor.detach() if tensor.device.type == "mps" else tensor.detach().double()


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Enable gradients, and disable the kernels without second derivatives: cuDNN's RNNs and fused attention."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with (
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),
        torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext(),
    ):
        yield


@contextmanager
def unfused_attention() -> Iterator[None]:
    """Disable the fused encoder layer inside the context: it calls none of its modules, and so no hook."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def derivative(value: Tensor, weights: Sequence[nn.Parameter], create_graph: bool = False) -> list[Tensor]:
    """Return ∂value/∂w for each tensor, 0 for a frozen or unused one, without changing any `.grad`."""
    wanted = [weight for weight in weights if weight.requires_grad]
    if not (wanted and value.requires_grad):
        return [torch.zeros_like(weight) for weight in weights]
    slopes = iter(torch.autograd.grad(value, wanted, create_graph=create_graph, materialize_grads=True))
    return [next(slopes) if weight.requires_grad else torch.zeros_like(weight) for weight in weights]


def gradient(evidence: Evidence, batch: Batch, temperature: float = 1.0, create_graph: bool = False) -> list[Tensor]:
    """Return ∂L/∂w, L the loss of a batch with outputs ÷ temperature. Call it within `differentiable`."""
    inputs, labels = batch
    outputs = evidence.model(inputs)
    loss = evidence.loss(outputs if temperature == 1 else outputs / temperature, labels)
    return derivative(loss, evidence.weights, create_graph)


def mean_gradient(evidence: Evidence, examples: int, temperature: float = 1.0) -> list[Tensor]:
    """Return g = ∂L/∂w, L the mean loss over so many examples, each counted once; in float64 (`exact`)."""
    return mean(evidence, evidence.batches(examples), lambda batch: gradient(evidence, batch, temperature))


def hessian_product(
    evidence: Evidence, vector: Sequence[Tensor], examples: int, temperature: float = 1.0
) -> list[Tensor]:
    """Return H v, H the Hessian of the mean loss over so many examples in the prunable weights; float64 (`exact`).

    Computed as ∂(g·v)/∂w, without H; ConfigError if torch has no second derivative of a part of the network.

    Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
    """

    def one(batch: Batch) -> list[Tensor]:
        slopes = gradient(evidence, batch, temperature, create_graph=True)
        along = torch.stack([(slope * v.to(slope)).sum() for slope, v in zip(slopes, vector, strict=True)]).sum()
        return derivative(along, evidence.weights)

    try:
        return mean(evidence, evidence.batches(examples), one)
    except RuntimeError as error:
        if "derivative" not in str(error) or "not implemented" not in str(error):
            raise
        kinds = sorted({type(module).__name__ for module in evidence.model.modules()})
        raise ConfigError(
            f"this criterion needs second derivatives, which torch lacks for a module of the network, one of "
            f"{', '.join(kinds)}: {one_line(error)}"
        ) from error


def mean(
    evidence: Evidence, batches: Iterable[Batch], one: Callable[[Batch], list[Tensor]], each_example: bool = True
) -> list[Tensor]:
    """Return the mean of `one(batch)`, a tensor for each weight; float64 (`exact`).

    Args:
        each_example: whether a batch counts as often as it has examples; else once.
    """
    totals = [torch.zeros_like(exact(weight)) for weight in evidence.weights]
    count = 0
    with differentiable(evidence.model):
        for batch in batches:
            size = len(batch[1]) if each_example else 1
            for total, part in zip(totals, one(batch), strict=True):
                total += exact(part) * size
            count += size
    return [total / count for total in totals]
