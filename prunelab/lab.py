"""The bench an experiment works at: model, masks, strategy and data of one config, and how they are trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from prunelab import building, masks, metrics, strategies, training
from prunelab.config import ConfigError
from prunelab.randomness import seed_torch
from prunelab.signals import InterruptedRun
from prunelab.stages import State, Work

Row = dict[str, Any]


class Lab:
    """One config, built. What can be wrong with model, strategy or optimizer is found here, before data is loaded.

    Raises:
        ConfigError: for a part or a pattern that does not fit.
    """

    def __init__(self, config: DictConfig, device: torch.device, on_batch: Callable[[], None]) -> None:
        self.config, self.device, self.on_batch = config, device, on_batch
        self.seed = int(config.seed)
        self.strategy = building.bind(config, "strategy", [], 0.0)
        self.model, self.parameters = self.new_model()
        self.new_optimizer()
        self.tensors = [item.name for item in masks.masked(self.model)]  # those that the config selects
        self.initial, _ = masks.snapshot(self.model)

    def new_model(self) -> tuple[nn.Module, masks.Parameters]:
        """The model with its initial weights, a function of the seed, and its prunable tensors, masked by ones."""
        seed_torch(self.seed, "init")
        model = building.bind(self.config, "model")()
        if not isinstance(model, nn.Module):
            raise ConfigError(f"model._target_={self.config.model._target_}: must make a torch.nn.Module")
        prune = self.config.prune
        output = None if prune.output_layer else masks.output_layer(model)
        parameters = masks.select(model.to(self.device), prune.include, prune.exclude, output)
        masks.attach(parameters)
        return model, parameters

    def new_optimizer(self) -> torch.optim.Optimizer:
        """A fresh optimizer: each round has its own, since old momentum would go on moving pruned weights."""
        bound = building.bind(self.config, "optimizer", [])
        try:
            # In one order, whichever have masks: an optimizer's state goes by position.
            parameters = [parameter for _, parameter in sorted(masks.originals(self.model).items())]
            return training.without_compiler(bound.func)(parameters, **bound.keywords)
        except (ValueError, RuntimeError, TypeError) as error:
            raise ConfigError(f"optimizer._target_={self.config.optimizer._target_}: {error}") from error

    def rehearse(self, amounts: list[float | None]) -> list[Row]:
        """Prunes a throwaway model through all rounds: the plan, exact to one weight, before any training.

        Tensors that the strategy masks beside the selected ones (a bias with its channel) get their masks of ones now,
        so that the prunable tensors are the same in every round, whether it is computed, resumed or reused.

        Returns:
            Rows of `round`, `amount`, `sparsity` and `left`, the prunable weights that stay.

        Raises:
            ConfigError: if the strategy cannot prune this model.
        """
        model, parameters = self.new_model()
        plan: list[Row] = []
        for round, amount in enumerate(amounts, 1):
            seed_torch(self.seed, round, "prune")
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    strategies.prune(model, parameters, self.strategy, amount)
            except ConfigError:
                raise
            except Exception as error:  # whatever a strategy of the user's may raise
                target = self.config.strategy._target_
                raise ConfigError(f"strategy._target_={target}: cannot prune this model: {error}") from error
            plan.append({"round": round, "amount": amount, "left": masks.count(model)[0]})
        masks.attach_like(self.model, model)
        _, size = masks.count(self.model)
        return [{**row, "sparsity": 1 - row["left"] / size} for row in plan]

    def load_data(self) -> None:
        """Puts the data on the device and tries the model on one example.

        Raises:
            ConfigError: if the model cannot take the data.
        """
        self.data = building.bind(self.config, "data")().to(self.device)
        self.batches = training.batches(len(self.data.train), self.config.train.batch_size)
        example, _ = self.data.train.batch(slice(0, 1))
        try:
            self.layers = metrics.layers(self.model, example)
        except (RuntimeError, ValueError, TypeError) as error:
            target, shape = self.config.model._target_, list(example.shape)
            raise ConfigError(f"model._target_={target}: cannot take the data's {shape}: {error}") from error

    def put(self, state: State) -> None:
        """Puts a state's weights and masks into the model."""
        masks.restore(self.model, state.weights, state.masks)

    def prune(self, round: int, amount: float | None) -> Row:
        """Lets the strategy tighten the masks once, seeded by (seed, round). Returns what a round says of it."""
        seed_torch(self.seed, round, "prune")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            took = strategies.prune(self.model, self.parameters, self.strategy, amount)
        return {"amount": amount, "prune_ms": took, "warnings": [str(warning.message) for warning in caught]}

    def train(
        self, work: Work, round: int, iterations: int, start: Callable[[], Row], on_epoch: Callable[[Row], None]
    ) -> State:
        """Trains from `start`, or from the checkpoint if there is one, which is as if there had been no break.

        Args:
            iterations: optimizer steps in all.
            start: puts the model where training begins; returns what the round says of that. Not called on resuming.
            on_epoch: called with every epoch's row, those before the break too.
        """
        checkpoint = work.load()
        if checkpoint is None:
            facts, rows, position = start(), [], training.Position()
            optimizer = self.new_optimizer()
        else:
            masks.restore(self.model, checkpoint["weights"], checkpoint["masks"])
            facts, rows, position = checkpoint["facts"], checkpoint["rows"], training.Position(**checkpoint["position"])
            optimizer = self.new_optimizer()
            optimizer.load_state_dict(checkpoint["optimizer"])

        def save() -> None:
            weights, kept = masks.snapshot(self.model)
            content = {"weights": weights, "masks": kept, "optimizer": optimizer.state_dict()}
            work.save(content | {"facts": facts, "rows": rows, "position": asdict(position)})

        for row in rows:
            on_epoch({**row, "reused": True})
        try:
            for row in self._fit(optimizer, round, iterations, position):
                rows.append({"round": round, **row})
                save()
                on_epoch({**rows[-1], "reused": False})
        except InterruptedRun:
            training.remember_generators(position, self.device)
            save()
            raise
        weights, kept = masks.snapshot(self.model)
        return State(weights, kept, self._measure(round, rows, facts), rows)

    def _fit(self, optimizer: torch.optim.Optimizer, round: int, iterations: int, position: training.Position) -> Any:
        return training.fit(
            self.model,
            optimizer,
            self.data.train,
            self.data.validation,
            iterations=iterations,
            batch_size=self.config.train.batch_size,
            seed=self.seed,
            round=round,
            position=position,
            on_batch=self.on_batch,
        )

    def _measure(self, round: int, rows: list[Row], facts: Row) -> Row:
        """The round's row: what is reported is the last epoch, under the final mask."""
        test_accuracy, test_loss = training.evaluate(self.model, self.data.test)
        last = rows[-1] if rows else {}
        return {
            "round": round,
            **facts,
            **metrics.cost(self.model, self.layers),
            "train_loss": last.get("train_loss"),
            "val_accuracy": last.get("val_accuracy") or training.evaluate(self.model, self.data.validation)[0],
            "test_accuracy": test_accuracy,
            "test_loss": test_loss,
            "epochs": len(rows),
            "seconds": sum(row["seconds"] for row in rows) + facts["prune_ms"] / 1000,
        }
