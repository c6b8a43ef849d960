"""The bench an experiment works at: model, masks, strategy, criterion, optimizer and data of one config."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor, nn

from prunelab import building, criteria, masks, metrics, skipping, strategies, training
from prunelab import config as configs
from prunelab.compact import reaching
from prunelab.config import ConfigError
from prunelab.criteria import Batch, Scores
from prunelab.randomness import permutation, seed_torch, seeded
from prunelab.stages import UNREADABLE, State
from prunelab.training import Routine

Row = dict[str, Any]
MAGNITUDE = "prunelab.criteria.magnitude.magnitude"


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

    def prune(self, round: int, amount: float | None, step: int = 1, macs: float | None = None) -> Row:
        """Lets the strategy tighten the masks once, seeded by (seed, round, step). Returns what a round says of it.

        Args:
            macs: instead of an amount, the share of multiply-adds that compaction is to leave.

        Returns:
            `amount`, `prune_ms`, `warnings`; of a strategy that goes by the validation loss also `losses`, which it has
            seen, by the names of the layers that were left out, and `layers_gone`, the names of those that it removed.
        """
        parts: tuple[int | str, ...] = (self.seed, round, "prune", *([step] if step > 1 else []))
        score = functools.partial(self.score, round) if building.takes(self.strategy, "scores") else None
        loss = _Losses(self)

        def by(amount: float | None) -> float:
            loss.asked.clear()
            iterations = self.config.criterion.iterations
            with seeded(*parts):
                return strategies.prune(self.model, self.parameters, self.strategy, amount, score, iterations, loss)

        start = time.perf_counter()
        if macs is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of trials
                amount = reaching.amount(self.model, self.example, macs, lambda tried: (self.interrupt(), by(tried)))
        searched = (time.perf_counter() - start) * 1000
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            took = by(amount)
        said = {"amount": amount, "prune_ms": searched + took, "warnings": [str(w.message) for w in caught]}
        return said | ({"losses": loss.asked, "layers_gone": loss.left_out()} if loss.asked else {})

    def score(self, round: int, most: int | None = None) -> Scores:
        """What the criterion says of the prunable weights, as they are now.

        Args:
            most: examples that it gets at most, for a trial.
        """
        evidence = criteria.gather(
            self.model,
            self.tensors,
            self.initial,
            self.movement,
            lambda examples: self._sample(round, min(examples, most or examples)),
            list(self.example.shape[1:]),
        )
        with torch.enable_grad():
            return self.criterion(evidence)

    def _sample(self, round: int, examples: int) -> Iterator[Batch]:
        """Examples of the training split, drawn by (seed, round), in batches."""
        order = permutation(len(self.data.train), self.seed, round, "criterion", device=self.device)[:examples]
        return (self.data.train.batch(index) for index in order.split(self.config.train.batch_size))

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


class _Losses:
    """The validation loss of the network as it is now, by the layers that are left out beside those already gone.

    Attributes:
        asked: those that were asked for, by the names of the layers; each is computed once.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab, self.gone = lab, set(skipping.skipped(lab.model))
        self.known: dict[str, float] = {}
        self.asked: dict[str, float] = {}

    def left_out(self) -> list[str]:
        """The layers that are left out now, in the model's own order."""
        return [name for name in skipping.skipped(self.lab.model) if name not in self.gone]

    def __call__(self) -> float:
        model, without = self.lab.model, " ".join(self.left_out())
        if without not in self.known:
            training_now = model.training
            self.known[without] = training.evaluate(model, self.lab.data.validation)[1]
            model.train(training_now)
        self.asked[without] = self.known[without]
        return self.known[without]


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
