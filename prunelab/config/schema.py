"""The typed schema: every key, its type, range and unit.

Nothing here imports torch, so that a wrong override is answered at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Optional

from omegaconf import MISSING, DictConfig

from prunelab.errors import ConfigError

# Chosen by name; `_target_` says what they are.
PARTS = ("data", "model", "strategy", "criterion", "schedule", "optimizer", "lr_schedule")
OPTIONAL_PARTS = ("regularizer", "sparse_training")  # empty unless chosen
CONTROLS = ("reinit", "random_masks", "shuffled_masks", "signs")
EXPORTS = ("safetensors", "onnx", "csr", "torch_export")
QUANTIZED = ("int8_weight", "int8_dynamic")
DEVICES = ("auto", "cpu", "cuda", "mps")


def _key(allowed: str, **bounds: float) -> Any:
    """A field of the schema. `bounds` are `ge`, `gt`, `le` and `lt`; null is left to the field's type."""
    return field(default=MISSING, metadata={"allowed": allowed, "bounds": bounds})


@dataclass
class Train:
    """Dense training; `batch_size` holds for fine-tuning too."""

    epochs: int = _key("a whole number of epochs ≥ 0", ge=0)
    batch_size: int = _key("a whole number of examples ≥ 1", ge=1)
    validate_every: Optional[int] = _key("null or a whole number of iterations ≥ 1", ge=1)


@dataclass
class Distill:
    """What the dense network teaches during fine-tuning."""

    alpha: float = _key("a number in [0, 1]: the teacher's share of the loss", ge=0, le=1)
    temperature: float = _key("a number in [0.001, 1000]", ge=0.001, le=1000)


@dataclass
class Finetune:
    """Training after each pruning."""

    epochs: int = _key("a whole number of epochs ≥ 0", ge=0)
    lr: Optional[str] = _key("null, last or rewind")
    distill: Distill = field(default_factory=Distill)


@dataclass
class Prune:
    """Which tensors are prunable: name patterns over `module.parameter`."""

    include: Optional[list[str]] = _key("null or a list of name patterns such as [fc*.weight]")
    exclude: list[str] = _key("a list of name patterns such as [fc3.*]")
    output_layer: bool = _key("true or false")


@dataclass
class Config:
    """One experiment. The values are in `conf/`, where the five parts (`data` … `optimizer`) are chosen."""

    seed: int = _key("a whole number in [0, 2**63)", ge=0, lt=2**63)
    amount: Optional[float] = _key("a fraction in [0, 1), of the weights still there", ge=0, lt=1)
    tolerance: Optional[float] = _key("null or a fraction in [0, 1] of validation accuracy", ge=0, le=1)
    rewind: Any = _key("null, 0, epochs such as 2ep, or iterations such as 500it")
    control: Optional[str] = _key("null, " + ", ".join(CONTROLS))
    train: Train = field(default_factory=Train)
    finetune: Finetune = field(default_factory=Finetune)
    prune: Prune = field(default_factory=Prune)
    data: dict[str, Any] = _key("a choice of data set")
    model: dict[str, Any] = _key("a choice of model")
    strategy: dict[str, Any] = _key("a choice of strategy")
    criterion: dict[str, Any] = _key("a choice of criterion")
    schedule: dict[str, Any] = _key("a choice of schedule")
    optimizer: dict[str, Any] = _key("a choice of optimizer")
    lr_schedule: dict[str, Any] = _key("a choice of learning-rate schedule")
    regularizer: dict[str, Any] = field(default_factory=dict, metadata=_key("a choice of regularizer").metadata)
    sparse_training: dict[str, Any] = field(default_factory=dict, metadata=_key("a choice of sparse training").metadata)
    compact: bool = _key("true or false")
    export: list[str] = _key("a list of " + ", ".join(EXPORTS))
    quantize: Optional[str] = _key("null, " + ", ".join(QUANTIZED))
    latency: Optional[bool] = _key("null, true or false")
    device: str = _key(" or ".join(DEVICES))
    threads: Optional[int] = _key("null or a whole number ≥ 1", ge=1)
    outputs: str = _key("a folder")
    reuse: bool = _key("true or false")
    trusted: list[str] = _key("a list of packages of yours")


# Keys of the chosen parts, whose other keys are checked by the signature of what their `_target_` names.
PART_KEYS = {
    "schedule.rounds": _key("a whole number ≥ 1, at most 10000", ge=1, le=10_000),
    "schedule.sparsity": _key("a fraction in (0, 1), reached in the last round", gt=0, lt=1),
    "schedule.compression": _key("a number > 1: all parameters ÷ nonzero ones, in the last round", gt=1),
    "schedule.macs": _key("a fraction in (0, 1): multiply-adds of the compact network ÷ dense ones", gt=0, lt=1),
    "schedule.every": _key("a whole number of iterations ≥ 1", ge=1),
    "schedule.prunings": _key("a whole number ≥ 1, at most 10000", ge=1, le=10_000),
    "schedule.step": _key("a fraction in (-1, 1), added to amount each round", gt=-1, lt=1),
    "optimizer.lr": _key("a number > 0", gt=0),
    "optimizer.weight_decay": _key("a number ≥ 0", ge=0),
    "optimizer.momentum": _key("a number in [0, 1)", ge=0, lt=1),
    "data.limit": _key("null or a whole number of examples ≥ 10", ge=10),
    "model.checkpoint": _key("null or a file of weights: .safetensors, or a state dict by torch.save"),
    "criterion.iterations": _key("a whole number ≥ 1, at most 1000", ge=1, le=1000),
    "criterion.examples": _key("a whole number of examples ≥ 1", ge=1),
    "regularizer.strength": _key("a number ≥ 0", ge=0),
    "sparse_training.every": _key("a whole number of iterations ≥ 1", ge=1),
    "sparse_training.fraction": _key("a fraction in (0, 1)", gt=0, lt=1),
    "sparse_training.until": _key("a fraction in (0, 1] of the iterations", gt=0, le=1),
}
WHOLE = {
    "schedule.rounds",
    "schedule.every",
    "schedule.prunings",
    "data.limit",
    "criterion.iterations",
    "criterion.examples",
    "sparse_training.every",
}


def described() -> Iterable[tuple[str, Any]]:
    """Every described key with its field: the schema's leaves, then the keys of the chosen parts."""

    def leaves(schema: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
        for item in fields(schema):
            inner = item.default_factory if item.default is not MISSING else None
            if is_dataclass(inner):
                yield from leaves(inner, f"{prefix}{item.name}.")
            else:
                yield f"{prefix}{item.name}", item

    yield from leaves(Config)
    yield from PART_KEYS.items()


def allowed(key: str) -> str | None:
    """What `key` may be, in words; None for a key that is not described."""
    spec = dict(described()).get(key)
    return spec.metadata["allowed"] if spec else None


def unknown_key(key: str, value: object, known: Iterable[str]) -> str:
    """The message for a key that does not exist, with the nearest one that does."""
    known = sorted(known)
    part, _, leaf = key.rpartition(".")
    everywhere = [name for name, _ in described()]
    near = [n for k, names in ((leaf, known), (leaf, everywhere), (key, everywhere)) for n in _nearest(k, names)][:1]
    hint = f"; did you mean {near[0]}?" if near else ""
    there = f"there are {', '.join(known)}" if known else f"{part or 'the config'} has none of its own here"
    return f"{key}={value}: there is no such key, {there}{hint}"


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, list(names), n=1)


def distillation(config: DictConfig) -> dict[str, float] | None:
    """`finetune.distill` as plain data; None where it is off, alpha = 0."""
    distill = config.finetune.distill
    return {"alpha": distill.alpha, "temperature": distill.temperature} if distill.alpha else None


def rewind_point(config: DictConfig) -> str | None:
    """`rewind` in one spelling: None, `0`, `2ep` or `500it`.

    Raises:
        ConfigError: if it is neither, or if it lies beyond dense training.
    """
    if config.rewind is None:
        return None
    match = re.fullmatch(r"(\d+)(ep|it)?", str(config.rewind))
    if not match or (match[2] is None and int(match[1]) != 0):
        raise ConfigError(f"rewind={config.rewind}: must be {allowed('rewind')}")
    count, unit = int(match[1]), match[2]
    if unit == "ep" and count > config.train.epochs:
        raise ConfigError(
            f"rewind={config.rewind}: dense training has train.epochs={config.train.epochs} epochs; "
            f"must be at most {config.train.epochs}ep"
        )
    return f"{count}{unit}" if count else "0"
