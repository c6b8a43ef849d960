"""Model, pruner, optimizer and data of one experiment, built from its spec."""

import functools
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from prunelab.config.network import DataFacts, data_facts, network
from prunelab.config.spec import Spec
from prunelab.data.dataset import Dataset
from prunelab.errors import ConfigError, one_line
from prunelab.experiment.pruner import pruner_of
from prunelab.pruning import skipping
from prunelab.pruning.criteria.base import Batch
from prunelab.pruning.layer_removal import LayerRemoval
from prunelab.runtime.recurrent import in_one_piece
from prunelab.runtime.seeding import permutation, seed_all, seeded
from prunelab.stages.checkpoint import UNREADABLE, fitting
from prunelab.stages.stage import State
from prunelab.training.callbacks.base import Callback
from prunelab.training.loop import batches
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
        self.live_model, self.live_data = model, data
        known = None if data is None else DataFacts(tuple(data.train.inputs.shape[1:]), class_count(data))
        self.facts = known or data_facts(spec.data)
        self.shape = self.facts.shape
        self.model = self.new_model()
        self.initial = snapshot(self.model)
        example = None if self.shape is None else torch.zeros(1, *self.shape, device=device)
        self.pruner = pruner_of(spec, self.model, self.initial, example)
        self.masks = self.pruner.masks
        self.tensors = [item.name for item in self.pruner.items]
        removal = spec.strategy
        self.layers = LayerRemoval(self.masks, self.tensors, removal.count, removal.threshold) if spec.layers else None
        self.lr_schedule: Callable[[float], float] = functools.partial(
            spec.lr_schedule.target, **spec.lr_schedule.options
        )
        self.lr_schedule(0.0)
        self.new_optimizer()
        self.dense: Tensors = {}  # the weights of round 0, once they are known
        self.batches = 0  # per epoch, once the data are loaded

    def new_model(self, draw: str = "init") -> nn.Module:
        """Return the model with initial weights drawn by (seed, `draw`), on the device."""
        seed_all(self.spec.seed, draw)
        if self.live_model is not None and draw == "init":
            return deepcopy(self.live_model).to(self.device)
        model = network(self.spec, self.facts) if self.live_model is None else _drawn_again(self.live_model)
        if self.spec.checkpoint is not None and draw == "init":
            load_checkpoint(model, self.spec.checkpoint)
        return model.to(self.device)

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
        return model.to(self.device)

    def new_optimizer(self, callbacks: list[Callback] | None = None) -> torch.optim.Optimizer:
        """Return a new optimizer, as each round needs one: old momentum belongs to other weights."""
        part = self.spec.optimizer
        try:
            return build_optimizer(part.target, self.model, callbacks or [], **part.options)
        except (ValueError, RuntimeError, TypeError) as error:
            raise ConfigError(f"{part}: {error}") from error

    def load_data(self) -> None:
        """Put the data on the device."""
        data = self.live_data if self.live_data is not None else self.spec.data()
        self.data = data.to(self.device)
        self.batches = batches(len(self.data.train), self.spec.train.batch_size)
        self.example: Tensor = self.data.train.batch(slice(0, 1))[0]
        self.pruner.example = self.example

    @property
    def dense_epochs(self) -> int:
        """Number of epochs of dense training; 0 if a checkpoint replaces it."""
        return 0 if self.spec.checkpoint is not None else self.spec.train.epochs

    def rewind_iterations(self) -> int | None:
        """Return `rewind` in iterations of dense training (Frankle et al. 2020, arXiv 1912.05671); None: no rewinding.

        Raises ConfigError if the point lies beyond dense training.
        """
        point = self.spec.rewind
        if point is None:
            return None
        iterations, last = point.iterations(self.batches), self.dense_epochs * self.batches
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
    state = model.state_dict()
    return {name: value.detach().clone(memory_format=torch.contiguous_format).cpu() for name, value in state.items()}


def _drawn_again(model: nn.Module) -> nn.Module:
    """Return a copy of a live model with other initial weights, drawn by its modules' own `reset_parameters`."""
    copy = deepcopy(model)
    for name, module in copy.named_modules():
        if list(module.parameters(recurse=False)):
            reset = getattr(module, "reset_parameters", None)
            if reset is None:
                raise ConfigError(f"control=reinit: {name} ({type(module).__name__}) has no reset_parameters()")
            reset()
    return copy


def load_checkpoint(model: nn.Module, file: str) -> None:
    """Load trained weights from a .safetensors file or a state dict of `torch.save`; only tensors are unpickled.

    Raises ConfigError if the file cannot be read or does not fit the model.
    """
    try:
        if Path(file).suffix == ".safetensors":
            state = load_file(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of files that are no state dicts; they are refused below
                state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except (*UNREADABLE, OSError) as error:
        raise ConfigError(f"model.checkpoint={file}: cannot be loaded into this model: {one_line(error)}") from error
