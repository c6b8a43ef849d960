"""Resolve a composed config into the frozen `Spec`, with all checks that need neither the model nor the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig

from prunelab.config.check import check, check_plain, plain
from prunelab.config.combinations import check_combination
from prunelab.config.component import Component, bind
from prunelab.config.network import data_facts
from prunelab.config.rules import AXES, method_component, rule_specs
from prunelab.config.spec import Distill, Finetune, Finish, Rewind, Selection, Spec, Strategy, Train

BOUND = (*AXES, "data", "criterion", "optimizer", "lr_schedule")  # parts without arguments that only prunelab gives


def resolve(config: DictConfig) -> Spec:
    """Return the specification that a composed config describes.

    Raises:
        ConfigError: for whatever is known to be wrong before a model is built or data is loaded.
    """
    check(config)
    return _spec(plain(config))


def from_plain(config: Mapping[str, Any], trusted: Iterable[str] = ()) -> Spec:
    """Return the specification of a config that was stored as plain data; no interpolation in it is resolved.

    Args:
        config: such as `Spec.plain` of a run.
        trusted: packages of the user's that its parts may come from, in the place of those in the config.

    Raises:
        ConfigError: as `resolve` does.
    """
    config = {**config, "trusted": list(trusted)}
    check_plain(config)
    return _spec(config)


def _spec(config: dict[str, Any]) -> Spec:
    trusted = tuple(config["trusted"])
    parts = {part: bind(part, config[part], trusted) for part in BOUND}
    schedule, train, prune = config["schedule"], config["train"], config["prune"]
    spec = Spec(
        seed=config["seed"],
        **parts,
        regularizer=_optional("regularizer", config, trusted),
        sparse_training=_optional("sparse_training", config, trusted),
        model=bind("model", config["model"], trusted, offered=data_facts(parts["data"]).known),
        checkpoint=config["model"].get("checkpoint"),
        train=Train(train["epochs"], train["batch_size"], train["validate_every"]),
        finetune=_finetune(config["finetune"]),
        selection=Selection(_tuple(prune["include"]), tuple(prune["exclude"]), prune["output_layer"]),
        iterations=config["criterion"].get("iterations") or 1,
        strategy=_strategy(config, trusted),
        schedule=bind("schedule", schedule, trusted, given=("amount", "tolerance"), offered=("sparsity",)),
        compression=schedule.get("compression"),
        macs=schedule.get("macs"),
        amount=config["amount"],
        tolerance=config["tolerance"],
        rewind=Rewind.parse(config["rewind"], train["epochs"]),
        control=config["control"],
        finish=Finish(config["compact"], tuple(config["export"]), config["quantize"], config["latency"]),
        device=config["device"],
        threads=config["threads"],
        outputs=config["outputs"],
        reuse=config["reuse"],
        trusted=trusted,
        plain=config,
    )
    check_combination(spec)
    return spec


def _optional(part: str, config: Mapping[str, Any], trusted: tuple[str, ...]) -> Component | None:
    return bind(part, config[part], trusted) if config[part] else None


def _finetune(node: Mapping[str, Any]) -> Finetune:
    distill = node["distill"]
    teacher = Distill(distill["alpha"], distill["temperature"]) if distill["alpha"] else None
    return Finetune(node["epochs"], node["lr"], teacher)


def _strategy(config: Mapping[str, Any], trusted: tuple[str, ...]) -> Strategy:
    node = config["strategy"]
    method: Component | None = None
    if node["method"] is not None:
        method = method_component("strategy.method", node["method"], trusted)
    rules = rule_specs(node["rules"], {axis: config[axis] for axis in AXES}, config["amount"], trusted)
    return Strategy(node["name"], method, rules, node["layers"], node["count"], node["threshold"])


def _tuple(items: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if items is None else tuple(items)
