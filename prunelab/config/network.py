"""Build the network and load the data set that a config names, and list the user's own parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunelab.config.component import Component, bind
from prunelab.errors import ConfigError
from prunelab.runtime.eval_mode import in_eval_mode
from prunelab.runtime.user_code import Part, is_users

if TYPE_CHECKING:
    from torch import nn

    from prunelab.config.spec import Spec
    from prunelab.data.dataset import Dataset


@dataclass(frozen=True)
class DataFacts:
    """The shape of one example, [channels, height, width], and the number of classes; None if not known."""

    shape: tuple[int, ...] | None
    classes: int | None

    @property
    def known(self) -> dict[str, Any]:
        """The facts that are known, as keyword arguments for a model."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class NetworkSpec:
    """The part of a `Spec` that a network is built from: gates of its regularizer, marks of removable layers."""

    data: Component
    model: Component
    regularizer: Component | None
    layers: bool


def from_plain(config: Mapping[str, Any], trusted: Iterable[str] = ()) -> NetworkSpec:
    """Return what a network is built from, of a config that was stored as plain data; no interpolation is resolved.

    Args:
        config: such as `Spec.plain` of a run.
        trusted: packages of the user's that these parts may come from; those that the config trusts do not count.

    Raises:
        ConfigError: for a part that is missing, not trusted, or given unknown options.
    """
    trusted = tuple(trusted)
    for part in ("data", "model"):
        if not isinstance(config.get(part), Mapping):
            raise ConfigError(f"{part}={config.get(part)}: must be a mapping with the key _target_")
    data = bind("data", config["data"], trusted)
    model = bind("model", config["model"], trusted, data_facts(data).known)
    regularizer = bind("regularizer", config["regularizer"], trusted) if config.get("regularizer") else None
    layers = bool((config.get("strategy") or {}).get("layers"))
    return NetworkSpec(data, model, regularizer, layers)


def no_data(**options: Any) -> Dataset:
    """Stand for `data=null`: the data set is given to `prunelab.run`."""
    raise ConfigError(
        "data=null: must be a choice or a _target_, unless prunelab.run(config, data=…) is given the data"
    )


def no_model(**options: Any) -> nn.Module:
    """Stand for `model=null`: the model is given to `prunelab.run`."""
    raise ConfigError("model=null: must be a choice or a _target_, unless prunelab.run(config, model=…) is given it")


def data_facts(data: Component) -> DataFacts:
    """Return what is known of a data set: from the options of its function, or else from the function's attributes."""
    shape, classes = (data.options.get(key, getattr(data.target, key, None)) for key in ("shape", "classes"))
    return DataFacts(None if shape is None else tuple(shape), classes)


def dataset(data: Component) -> Dataset:
    """Return the data set, in memory; raise ConfigError if it cannot be loaded, or its labels are no classes."""
    from prunelab.data.live import as_dataset

    facts = data_facts(data)
    return as_dataset(data(), str(data), facts.shape, facts.classes)


def users_parts(spec: Spec, model: nn.Module | None = None, data: Dataset | None = None) -> list[Part]:
    """Return the parts of an experiment that are a user's: from the user's packages, or live objects."""
    found = [part.as_part() for part in vars(spec).values() if isinstance(part, Component) and is_users(part.target)]
    methods = {"strategy.method": spec.strategy.method}
    methods |= {f"strategy.rules[{i}].method": rule.method for i, rule in enumerate(spec.strategy.rules)}
    live = {"model": model, "data": data}
    found += [Part(f"{key}={type(x).__name__}", x, key == "model") for key, x in live.items() if x is not None]
    return found + [
        Part(f"{key}={method.name}", method.target)
        for key, method in methods.items()
        if method is not None and is_users(method.target)
    ]


def materialize(model: nn.Module, shape: tuple[int, ...] | None) -> None:
    """Give lazy layers, such as `nn.LazyLinear`, their shapes, by running the model on one example of zeros.

    Raises:
        ConfigError: if the shape of an example is not known.
    """
    import torch
    from torch.nn.parameter import is_lazy

    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    lazy = [name for name, tensor in tensors.items() if is_lazy(tensor)]
    if lazy and shape is None:
        raise ConfigError(f"model={type(model).__name__}: {lazy[0]} is lazy; give your data function a `shape`")
    if lazy and shape is not None:
        with torch.no_grad(), in_eval_mode(model):
            model(torch.zeros(1, *shape))


def network(spec: Spec | NetworkSpec, facts: DataFacts | None = None) -> nn.Module:
    """Return the network, with the gates of its regularizer and with removable layers marked. Draws its weights.

    Args:
        facts: of a live data set in the place of the spec's.

    Raises:
        ConfigError: if it cannot be built, or is no torch.nn.Module.
    """
    from torch import nn

    from prunelab.pruning.layer_removal import mark_layers

    facts = facts or data_facts(spec.data)
    made = spec.model(**facts.known)
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{spec.model}: must make a torch.nn.Module")
    materialize(made, facts.shape)
    if spec.regularizer is not None and hasattr(spec.regularizer.target, "prepare"):
        spec.regularizer.target.prepare(made, facts.shape, **spec.regularizer.options)
    if spec.layers:
        mark_layers(made, facts.shape)
    return made
