"""Resolve a composed config into the frozen `Spec`, with all checks that need neither the model nor the data."""

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig

from prunelab.config.check import check, check_plain, plain
from prunelab.config.combinations import check_combination
from prunelab.config.component import Component, bind
from prunelab.config.compose import in_sweep
from prunelab.config.network import data_facts, no_data
from prunelab.config.rules import AXES, method_component, rule_specs
from prunelab.config.schema import OPTIONAL, REQUIRED, allowed
from prunelab.config.spec import Distill, Finetune, Finish, Rewind, Selection, Spec, Strategy, Train
from prunelab.errors import ConfigError


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
    parts: dict[str, Any] = {part: bind(part, config[part], trusted) for part in REQUIRED if part != "model"}
    facts = data_facts(parts["data"]).known if parts["data"].target is not no_data else ("shape", "classes")
    optional: dict[str, Any] = {part: bind(part, config[part], trusted) if config[part] else None for part in OPTIONAL}
    as_they_are = ("seed", "amount", "reconstruct", "tolerance", "control", "device", "threads", "outputs", "reuse")
    data, train, prune = config["data"], config["train"], config["prune"]
    include = None if prune["include"] is None else tuple(prune["include"])
    spec = Spec(
        **{key: config[key] for key in as_they_are},
        baseline=in_sweep() if config["baseline"] is None else config["baseline"],
        **parts,
        **optional,
        model=bind("model", config["model"], trusted, facts),
        **{key: data.get(key) for key in ("validation", "label_noise", "scale", "shift")},
        flip=data.get("flip") or None,
        **{key: config["model"].get(key) for key in ("checkpoint", "init")},
        decay=config["optimizer"].get("decay"),
        train=_train(train),
        finetune=_finetune(config, trusted),
        selection=Selection(include, tuple(prune["exclude"]), prune["output_layer"], prune["adopt_zeros"]),
        iterations=config["criterion"].get("iterations") or 1,
        strategy=_strategy(config, trusted),
        **{key: config["schedule"].get(key) for key in ("compression", "macs")},
        rewind=Rewind.parse(config["rewind"], train["epochs"]),
        finish=Finish(
            **{key: config[key] for key in ("compact", "round_to", "quantize", "latency")},
            export=tuple(config["export"]),
        ),
        trusted=trusted,
        plain=config,
    )
    check_combination(spec)
    return spec


def _train(config: Mapping[str, Any]) -> Train:
    """Return the section `train`; what its defaults say too is null, so that it changes no stage's name."""
    precision = None if config["precision"] == "fp32" else config["precision"]
    return Train(**{**config, "precision": precision, "graph": config["graph"] or None, "test": config["test"] or None})


def _finetune(config: Mapping[str, Any], trusted: Iterable[str]) -> Finetune:
    node, own = config["finetune"], dict[str, Component]()
    for part in ("optimizer", "lr_schedule") if node["optimizer"] or node["lr_schedule"] else ():
        if not isinstance(node[part] or {}, Mapping):
            raise ConfigError(f"finetune.{part}={node[part]}: must be {allowed(f'finetune.{part}')}")
        if node["lr"] is not None:
            why = "finetune.optimizer and finetune.lr_schedule begin a schedule of their own"
            raise ConfigError(f"finetune.lr={node['lr']}: {why}; must be null")
        try:
            own[part] = bind(part, {**config[part], **(node[part] or {})}, trusted)
        except ConfigError as error:  # says optimizer.…
            raise ConfigError(f"finetune.{error}") from error
    distill = node["distill"]
    return Finetune(node["epochs"], node["lr"], Distill(**distill) if distill["alpha"] else None, **own)


def _strategy(config: Mapping[str, Any], trusted: tuple[str, ...]) -> Strategy:
    node = config["strategy"]
    method = None if node["method"] is None else method_component("strategy.method", node["method"], trusted)
    rules = rule_specs(node["rules"], {axis: config[axis] for axis in AXES}, trusted)
    return Strategy(node["name"], method, rules, node["layers"], node["count"], node["threshold"])
