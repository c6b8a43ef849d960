"""The bench an experiment works at: model, masks, strategy, criterion, optimizer and data of one config."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor, nn

from prunelab.config import build as building
from prunelab.config import schema as configs
from prunelab.config.schema import ConfigError
from prunelab.costs import counts as metrics
from prunelab.pruning import masks
from prunelab.pruning.strategies import base as strategies
from prunelab.runtime.seeding import seed_torch, seeded
from prunelab.stages.store import UNREADABLE, State
from prunelab.training import loop as training
from prunelab.training.loop import Routine

Row = dict[str, Any]
MAGNITUDE = "prunelab.pruning.criteria.magnitude.magnitude"


class Lab:
    """One config, built. What can be wrong with model, strategy or optimizer is found here, before data is loaded.

    Raises:
        ConfigError: for a part or a pattern that does not fit.
    """

    def __init__(
        self,
        config: DictConfig,
        device: torch.device,
        on_batch: Callable[[], None] = lambda: None,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self.config, self.device, self.on_batch, self.interrupt = config, device, on_batch, interrupt
        self.seed = int(config.seed)
        self.criterion = building.bind(config, "criterion", None)
        self.watches = bool(getattr(self.criterion.func, "watches", False))
        self.lr_schedule = building.bind(config, "lr_schedule", 0.0)
        self.lr_schedule(0.0)
        self.model, self.parameters = self.new_model()
        self.strategy = self._strategy()
        self.new_optimizer()
        self.tensors = self.names(self.parameters)  # those that the config selects
        self.initial, _ = masks.snapshot(self.model)
        self.movement: dict[str, Tensor] = {}
        self.dense: masks.Tensors = {}  # the weights of round 0, once they are there

    def new_model(self, draw: str = "init") -> tuple[nn.Module, masks.Parameters]:
        """The model with its initial weights, a function of the seed, and its prunable tensors, masked by ones.

        Args:
            draw: another word gives other weights.
        """
        seed_torch(self.seed, draw)
        model = building.network(self.config)
        if self.trained:
            _load(model, str(self.config.model.checkpoint))
        prune = self.config.prune
        output = None if prune.output_layer else masks.output_layer(model)
        parameters = masks.select(model.to(self.device), prune.include, prune.exclude, output)
        masks.attach(parameters)
        masks.heed_attention(model)
        return model, parameters

    def dense_network(self) -> nn.Module:
        """A second network with the weights of round 0, without masks, on the device, in eval mode."""
        with seeded(self.seed, "dense"):
            model = building.network(self.config)
        model.load_state_dict(self.dense)
        return model.to(self.device).eval()

    def _strategy(self) -> functools.partial[None]:
        given = {**strategies.GIVEN, "names": self.names(self.parameters)}
        strategy = building.bind(self.config, "strategy", [], 0.0, given=given)
        chosen = self.config.criterion
        if not building.takes(strategy, "scores") and (chosen._target_ != MAGNITUDE or chosen.iterations > 1):
            name = strategy.func.__name__
            raise ConfigError(f"criterion._target_={chosen._target_}: strategy={name} goes by no criterion but its own")
        return strategy

    def names(self, parameters: masks.Parameters) -> list[str]:
        """The tensors' names in the dense model: `conv1.weight`."""
        known = {(item.module, item.parameter): item.name for item in masks.masked(self.model)}
        return [known[module, name] for module, name in parameters]

    @property
    def trained(self) -> bool:
        """Whether the network comes trained, from `model.checkpoint`, so that dense training is left out."""
        return self.config.model.get("checkpoint") is not None

    @property
    def dense_epochs(self) -> int:
        """Of dense training."""
        return 0 if self.trained else int(self.config.train.epochs)

    def new_optimizer(self, routines: list[Routine] | None = None) -> torch.optim.Optimizer:
        """A fresh optimizer: each round has its own, since old momentum would go on moving pruned weights."""
        bound = building.bind(self.config, "optimizer", [])
        try:
            # In one order, whichever have masks: an optimizer's state goes by position.
            groups = [group for routine in routines or [] if (group := routine.parameters()) is not None]
            own = {id(parameter) for group in groups for parameter in group["params"]}
            parameters = [p for _, p in sorted(masks.originals(self.model).items()) if id(p) not in own]
            optimizer = training.without_compiler(bound.func)(
                [{"params": parameters}, *groups] if groups else parameters, **bound.keywords
            )
        except (ValueError, RuntimeError, TypeError) as error:
            raise ConfigError(f"optimizer._target_={self.config.optimizer._target_}: {error}") from error
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return optimizer

    def load_data(self) -> None:
        """Puts the data on the device and tries the model on one example.

        Raises:
            ConfigError: if the model cannot take the data.
        """
        self.data = building.called(self.config, "data", building.bind(self.config, "data")).to(self.device)
        self.batches = training.batches(len(self.data.train), self.config.train.batch_size)
        self.example, _ = self.data.train.batch(slice(0, 1))
        try:
            metrics.layers(self.model, self.example)
            self._check_output()
        except ConfigError:
            raise
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
            target, shape = self.config.model._target_, list(self.example.shape)
            why = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"model._target_={target}: cannot take the data's {shape}: {why}") from error

    @torch.no_grad()
    def _check_output(self) -> None:
        """Raises ConfigError unless the model gives logits."""
        inputs, _ = self.data.train.batch(slice(0, 2))
        output, classes = self.model.eval()(inputs), int(self.data.train.labels.max()) + 1
        if isinstance(output, Tensor):
            fits = output.dim() == 2 and len(output) == len(inputs) and output.shape[1] >= classes
            if fits and output.dtype in (torch.float32, torch.float64):
                return
            output = f"{output.dtype} {list(output.shape)}".removeprefix("torch.")
        else:
            output = type(output).__name__
        target = self.config.model._target_
        wanted = f"must give logits, float32 [{len(inputs)}, {classes}]"
        raise ConfigError(f"model._target_={target}: gives {output} for {len(inputs)} examples; {wanted}")

    def put(self, state: State) -> None:
        """Puts a state's weights and masks into the model."""
        masks.restore(self.model, state.weights, state.masks)
        self.movement = state.movement

    def rewind_iterations(self) -> int | None:
        """`rewind` in iterations of dense training (Frankle et al. 2020, arXiv 1912.05671); None: no rewinding.

        Raises:
            ConfigError: if the point lies beyond dense training.
        """
        point = configs.rewind_point(self.config)
        if point is None:
            return None
        last = self.dense_epochs * self.batches
        iterations = int(point.rstrip("epit")) * (self.batches if point.endswith("ep") else 1)
        if iterations > last:
            raise ConfigError(f"rewind={point}: dense training has {last} iterations; must be at most {last}it")
        return iterations


def _load(model: nn.Module, file: str) -> None:
    """Loads a trained network's weights: a .safetensors file, or a state dict written by `torch.save`.

    Raises:
        ConfigError: if the file cannot be read, or does not fit the model. Nothing but tensors is ever unpickled.
    """
    try:
        if Path(file).suffix == ".safetensors":
            state = load_file(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what is no state dict; it is refused just below
                state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except (*UNREADABLE, OSError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"model.checkpoint={file}: cannot be loaded into this model: {why}") from error
