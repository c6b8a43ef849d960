"""Model, pruner, optimizer and data of one experiment, built from its spec."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.config import spec as specs
from prunelab.config.network import DataFacts, data_facts, materialize, network
from prunelab.config.spec import Spec
from prunelab.data.dataset import Dataset, Split
from prunelab.errors import ConfigError
from prunelab.experiment import live_identity, load_data
from prunelab.experiment.initialise import drawn_again, initialise
from prunelab.experiment.pruner import pruner_of
from prunelab.experiment.weights_file import Stored, load_weights
from prunelab.pruning import skipping
from prunelab.pruning.adopted_zeros import AdoptedZeros, adopt_zeros
from prunelab.pruning.criteria.base import Batch
from prunelab.pruning.layer_removal import LayerRemoval
from prunelab.runtime.recurrent import in_one_piece
from prunelab.runtime.seeding import permutation, seed_all, seeded
from prunelab.runtime.user_code import explained
from prunelab.stages.checkpoint import fitting
from prunelab.stages.stage import State
from prunelab.training.callbacks.base import Callback
from prunelab.training.loop import Evaluation, Steps, batches, evaluate, one_by_one
from prunelab.training.optimizers import build_optimizer

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Hooks:
    """Functions that the experiment calls while it works."""

    on_batch: Callable[[], None] = lambda: None  # before each batch of training
    interrupt: Callable[[], None] = lambda: None  # between longer steps; raises if a signal asked the run to stop


class Bench:
    """Model, pruner, optimizer and data of one experiment. Everything but the data is built and checked at once.

    Args:
        model: a module that replaces the spec's model.
        data: a data set that replaces the spec's data.

    Raises:
        ConfigError: for a part or a pattern that does not fit.
    """

    def __init__(
        self,
        spec: Spec,
        device: torch.device,
        hooks: Hooks | None = None,
        model: nn.Module | None = None,
        data: Dataset | None = None,
    ) -> None:
        self.spec, self.device, self.hooks = spec, device, hooks or Hooks()
        self.name = str(spec.model) if model is None else f"model={type(model).__name__}"  # for messages
        self.copies_inputs = False  # whether the network modifies its inputs in place, and therefore gets copies
        self.live_model, self.live_data, self.stored = model, data, Stored()
        known = None if data is None else DataFacts(tuple(data.train.inputs.shape[1:]), class_count(data))
        self.live_structure = None if model is None else live_identity.structure(model)
        self.facts = known or data_facts(spec.data)
        self.shape = self.facts.shape
        self.model = self.new_model()
        with explained(self.name, "cannot be saved", only=ConfigError):
            self.initial = snapshot(self.model)
        example = None if self.shape is None else torch.zeros(1, *self.shape, device=device)
        self.pruner = pruner_of(spec, self.model, self.initial, example)
        self.masks = self.pruner.masks
        self.tensors = [item.name for item in self.pruner.items]
        self.adopted = self._adopt_zeros()
        removal = spec.strategy
        self.layers = LayerRemoval(self.masks, self.tensors, removal.count, removal.threshold) if spec.layers else None
        (spec.finetune.lr_schedule or spec.lr_schedule)(0.0)
        spec.lr_schedule(0.0)
        self.new_optimizer(round=1)
        self.new_optimizer()
        self.dense: Tensors = {}  # the weights of round 0, once they are known
        self.executor: str | None = None  # how steps are taken, see `executor.choose`; part of the name of a stage
        self.steps: Steps = one_by_one
        self.batches = 0  # per epoch, once the data are loaded
        self.data_content: dict[str, str] | None = None  # digests of the user's own data, likewise

    def new_model(self, draw: str = "init") -> nn.Module:
        """Return the model with initial weights drawn by (seed, `draw`), on the device."""
        seed_all(self.spec.seed, draw)
        if self.live_model is not None and draw == "init":
            with explained(self.name, "cannot be copied"):
                model = deepcopy(self.live_model)
            materialize(model, self.shape)
        elif self.live_model is not None:
            model = drawn_again(self.live_model)
        else:
            model = network(self.spec, self.facts)
        if self.spec.init is not None:
            initialise(model, self.spec.init)
        if self.spec.checkpoint is not None and draw == "init":
            self.stored = load_weights(model, self.spec.checkpoint)
        return model.to(self.device)

    def _adopt_zeros(self) -> AdoptedZeros | None:
        """Give a trained network's zeros masks. (A network that is yet to be trained may begin with zeros.)"""
        checkpoint = self.spec.checkpoint
        if self.stored.layers_removed and not self.spec.layers:
            raise ConfigError(f"model.checkpoint={checkpoint}: layers were removed from it; needs strategy=layer")
        if not self.spec.selection.adopt_zeros or (checkpoint is None and self.live_model is None):
            return None
        return adopt_zeros(self.masks, self.pruner.groups, self.stored.masks)

    def dense_network(self) -> nn.Module:
        """Return a second network with the weights of round 0, without masks, on the device, in eval mode."""
        model = self._second()
        for module in model.modules():
            skipping.set_skipped(module, False)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name in self.dense:
                tensor.data = self.dense[name].to(self.device)  # shared on a CPU: large networks need the memory
        return in_one_piece(model).eval()

    def copy(self) -> nn.Module:
        """Return a second network with the model's weights and removed layers, on the device, in eval mode."""
        return self._second().eval()

    def _second(self) -> nn.Module:
        """Return a copy of the model; built again if it cannot be copied, such as one that stores an output."""
        try:
            return in_one_piece(deepcopy(self.model))
        except Exception:
            with seeded(self.spec.seed, "init"):
                model = network(self.spec, self.facts) if self.live_model is None else deepcopy(self.live_model)
        model.load_state_dict(self.model.state_dict())
        for name in skipping.skipped(self.model):
            skipping.set_skipped(model.get_submodule(name), True)
        if self.copies_inputs:
            model.register_forward_pre_hook(_copied)
        return model.to(self.device)

    def evaluate(self, split: Split) -> Evaluation:
        """Measure the model on a split, in the precision of training."""
        return evaluate(self.model, split, precision=self.spec.train.precision)

    def copy_inputs(self) -> None:
        """From now on, give the network and its copies a copy of each batch, on which they may write."""
        self.copies_inputs = True
        self.model.register_forward_pre_hook(_copied)

    def new_optimizer(
        self, callbacks: list[Callback] | None = None, model: nn.Module | None = None, round: int = 0
    ) -> torch.optim.Optimizer:
        """Return a new optimizer, as each round needs one: old momentum belongs to other weights."""
        part = (self.spec.finetune.optimizer if round else None) or self.spec.optimizer
        try:
            return build_optimizer(
                part.target, self.model if model is None else model, callbacks or [], self.spec.decay, **part.options
            )
        except (ValueError, RuntimeError, TypeError) as error:
            raise ConfigError(f"{part}: {error}") from error

    def load_data(self) -> None:
        """Put the data on the device."""
        self.data, self.data_content = load_data.load(self.spec, self.live_data, self.device)
        self.batches = batches(len(self.data.train), self.spec.train.batch_size)
        self.example: Tensor = self.data.train.batch(slice(0, 1))[0]
        self.pruner.example = self.example

    @property
    def dense_epochs(self) -> int | str:
        """Length of dense training, as `train.epochs` gives it; 0 if a checkpoint replaces it."""
        return 0 if self.spec.checkpoint is not None else self.spec.train.epochs

    @property
    def dense_iterations(self) -> int:
        """Length of dense training in iterations."""
        return specs.iterations(self.dense_epochs, self.batches)

    @property
    def finetune_iterations(self) -> int:
        """Length of a round's training in iterations."""
        return specs.iterations(self.spec.finetune.epochs, self.batches)

    def rewind_iterations(self) -> int | None:
        """Return `rewind` in iterations of dense training (Frankle et al. 2020, arXiv 1912.05671); None: no rewinding.

        Raises ConfigError if the point lies beyond dense training.
        """
        point = self.spec.rewind
        if point is None:
            return None
        iterations, last = point.iterations(self.batches), self.dense_iterations
        if iterations > last:
            raise ConfigError(f"rewind={point}: dense training has {last} iterations; must be at most {last}it")
        return iterations

    def put(self, state: State) -> None:
        """Restore weights, masks and the criterion's state."""
        with fitting(f"stages/{state.stage}"):
            self.restore(state.weights, state.masks)
            self.pruner.recorder.load(state.recorded)

    @torch.no_grad()
    def restore(self, weights: Tensors, masks: Tensors | None = None) -> None:
        """Restore the weights of a state dict, and the masks; None: the masks stay, which is rewinding."""
        if masks is not None:
            self.masks.load(masks)
        state = self.model.state_dict()
        for name, value in state.items():
            if weights[name].shape != value.shape:  # copying would repeat the smaller one
                raise ValueError(f"{name} has the shape {list(weights[name].shape)}, not {list(value.shape)}")
            value.copy_(weights[name])
        self.masks.apply()

    def sample(self, round: int, examples: int) -> Iterator[Batch]:
        """Yield that many examples of the training split, drawn by (seed, round), in batches, for criteria."""
        order = permutation(len(self.data.train), self.spec.seed, round, "criterion", device=self.device)[:examples]
        return (self.data.train.batch(index) for index in order.split(self.spec.train.batch_size))

    def training_batch(self, round: int, iteration: int) -> Batch:
        """Return one batch of the training split, drawn by (seed, round, iteration), for callbacks."""
        order = permutation(len(self.data.train), self.spec.seed, round, iteration, "routine", device=self.device)
        return self.data.train.batch(order[: self.spec.train.batch_size])


def class_count(data: Dataset) -> int:
    """Return the number of classes: the largest label of all splits + 1."""
    labels = (split.labels for split in (data.train, data.validation, data.test))
    return 1 + max(int(some.max()) for some in labels if len(some))


def snapshot(model: nn.Module) -> Tensors:
    """Return copies of a model's tensors, on the CPU."""
    state = live_identity.state(model)
    return {name: value.detach().clone(memory_format=torch.contiguous_format).cpu() for name, value in state.items()}


def _copied(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Replace a module's inputs by copies; a forward pre-hook."""
    return tuple(x.clone() if isinstance(x, Tensor) else x for x in inputs)
