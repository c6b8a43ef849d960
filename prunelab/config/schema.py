"""The schema: type, range, default and meaning of every key of the config, each in one place.

Nothing here imports torch, so that a wrong override is answered at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Optional

from prunelab.config.keys import PART_KEYS, Key, key, shared
from prunelab.errors import ConfigError as ConfigError

CONTROLS = ("reinit", "random_masks", "shuffled_masks", "signs")
EXPORTS = ("safetensors", "onnx", "csr", "torch_export")
RECONSTRUCTIONS = ("obs",)
QUANTIZED = ("int8_weight", "int8_dynamic")
PRECISIONS = ("fp32", "tf32", "bf16")
DEVICES = ("auto", "cpu", "mps", r"cuda(:\d+)?")


@dataclass
class Train:
    """Dense training."""

    epochs: Any = key(
        3,
        "epochs of dense training, or 500it; 0: prune at initialisation",
        "a whole number of epochs ≥ 0, or iterations such as 500it",
    )
    batch_size: int = key(64, "examples per batch, in fine-tuning too", "a whole number of examples ≥ 1")
    validate_every: Optional[int] = key(
        None, "iterations between validations; null: one after each epoch", "null or a whole number of iterations ≥ 1"
    )
    test: Optional[bool] = key(
        None,
        "measure the test split after each epoch too, beside what papers report that choose by it; null: false",
        "null, true or false",
    )
    ema: Optional[float] = key(
        None,
        "decay of an exponential moving average of the weights, which is validated and replaces them in the end",
        "null or a fraction in (0, 1)",
    )
    precision: Optional[str] = key(
        None, "arithmetic of the network; tf32: on a GPU; bf16: by autocast; null: fp32", choices=PRECISIONS
    )
    graph: Optional[bool] = key(
        None, "capture the training step in a CUDA graph, where that is possible; null: false", "null, true or false"
    )


@dataclass
class Distill:
    """Distillation from the dense network during fine-tuning."""

    alpha: float = key(
        0.0, "share of distillation in the loss of fine-tuning", "a number in [0, 1]: the teacher's share of the loss"
    )
    temperature: float = key(4.0, "temperature of both softmaxes", "a number in [0.001, 1000]")


@dataclass
class Finetune:
    """Training after each pruning."""

    epochs: Any = key(
        1,
        "epochs of training after each pruning, or 500it",
        "a whole number of epochs ≥ 0, or iterations such as 500it",
    )
    lr: Optional[str] = key(
        None,
        "last: the last learning rate of dense training; rewind: its schedule again; null: rewind if weights rewind",
        "null, last or rewind",
        choices=("last", "rewind"),
    )
    optimizer: Any = key(
        None,
        "optimizer options that differ in fine-tuning, such as {lr: 0.01}",
        "null or a mapping of options",
    )
    lr_schedule: Any = key(
        None,
        "lr_schedule options of fine-tuning; with these or finetune.optimizer it runs over each fine-tuning",
        "null or a mapping of options",
    )
    distill: Distill = field(default_factory=Distill)


@dataclass
class Prune:
    """Which tensors may be pruned, by patterns over names such as `conv1.weight`."""

    include: Optional[list[str]] = key(
        None,
        "name patterns of prunable tensors; null: weights of Conv, Linear, recurrent and attention layers",
        "null or a list of name patterns such as [fc*.weight]",
    )
    exclude: list[str] = key(
        list, "name patterns of tensors that are never pruned", "a list of name patterns such as [fc3.*]"
    )
    output_layer: Optional[bool] = key(
        None,
        "whether the output layer may be pruned; null: yes, unless output channels are removed",
        "null, true or false",
    )
    adopt_zeros: bool = key(True, "zeros of a model.checkpoint or a live model count as pruned, and stay zero")


@dataclass
class Strategy:
    """What a preset sets beside the axes."""

    name: str = key("own", "name of the preset", "a name")
    method: Optional[str] = key(
        None,
        "BasePruningMethod, or function score(weight), in the criterion's place",
        "null or a dotted name such as mypackage.MyMethod",
    )
    rules: list[Any] = key(
        list,
        "the first of these rules that matches a tensor prunes it; empty: all tensors are pruned alike",
        "a list of rules such as {match: Conv2d, granularity: channel, allocation: local, amount: 0.2}",
    )
    layers: bool = key(False, "remove whole layers: those whose removal gives the lowest validation loss")
    count: Optional[int] = key(None, "strategy=layer: layers to remove each round", "null or a whole number ≥ 1")
    threshold: Optional[float] = key(
        None, "strategy=layer: nats of validation loss that a round may cost", "null or a number ≥ 0"
    )


def _group(part: str, what: str) -> Any:
    return key(lambda: shared(part), what, f"a choice of {what}")


@dataclass
class Config:
    """One experiment. `conf/` has one group of choices for each part (`data` … `sparse_training`)."""

    seed: int = key(0, "same seed, device, threads and versions: bit-identical results", "a whole number in [0, 2**63)")
    amount: Optional[float] = key(
        None, "fraction of the unpruned units that a round removes", "a fraction in [0, 1), of the units still there"
    )
    reconstruct: Optional[str] = key(
        None,
        "obs: each pruning updates the weights that stay, layer by layer, from 2048 training examples",
        choices=RECONSTRUCTIONS,
    )
    tolerance: Optional[float] = key(
        None,
        "schedule=until: validation accuracy that may be lost",
        "null or a fraction in [0, 1] of validation accuracy",
    )
    rewind: Any = key(
        None,
        "weights that fine-tuning starts from; null: current; 0: initial; 2ep, 500it: after that much dense training",
        "null, 0, epochs such as 2ep, or iterations such as 500it",
    )
    control: Optional[str] = key(
        None, "network to compare a ticket with: other weights, or other masks", choices=CONTROLS
    )
    baseline: Optional[bool] = key(
        None,
        "also train the dense network for as many epochs as the pruned one; null: only in a sweep",
        "null, true or false",
    )
    train: Train = field(default_factory=Train)
    finetune: Finetune = field(default_factory=Finetune)
    prune: Prune = field(default_factory=Prune)
    strategy: Strategy = field(default_factory=Strategy)
    data: dict[str, Any] = _group("data", "data set")
    model: dict[str, Any] = _group("model", "model")
    criterion: dict[str, Any] = _group("criterion", "criterion")
    granularity: dict[str, Any] = _group("granularity", "granularity")
    allocation: dict[str, Any] = _group("allocation", "allocation")
    schedule: dict[str, Any] = _group("schedule", "schedule")
    optimizer: dict[str, Any] = _group("optimizer", "optimizer")
    lr_schedule: dict[str, Any] = _group("lr_schedule", "learning-rate schedule")
    regularizer: dict[str, Any] = _group("regularizer", "regularizer")
    sparse_training: dict[str, Any] = _group("sparse_training", "sparse training")
    compact: bool = key(False, "remove the channels and layers that masks have emptied, and prove the output unchanged")
    round_to: Optional[int] = key(
        None,
        "compact=true: leave multiples of this many channels, neurons, hidden units; null: 4 channels of convolutions",
        "null or a whole number ≥ 1",
    )
    export: list[str] = key(
        list, "file formats to write, each compared after writing", "a list of " + ", ".join(EXPORTS), choices=EXPORTS
    )
    quantize: Optional[str] = key(
        None, "store Linear layers in 8 bits, after pruning and fine-tuning", choices=QUANTIZED
    )
    latency: Optional[bool] = key(
        None, "measure latency at the end; null: only if compact, export or quantize is set", "null, true or false"
    )
    reference: Any = key(
        None,
        "published result that the experiment reproduces; changes nothing",
        "null or a mapping, as in conf/experiment/papers",
    )
    device: str = key(
        "auto",
        "where to compute; auto: on a GPU if there is one",
        "auto, cpu, mps, cuda or a certain GPU, such as cuda:1",
        choices=DEVICES,
    )
    threads: Optional[int] = key(
        None, "CPU threads; null: OMP_NUM_THREADS, else 1; more help large networks", "null or a whole number ≥ 1"
    )
    outputs: str = key("outputs", "folder of run folders and stages", "a folder")
    reuse: bool = key(True, "use finished stages; false: compute every stage anew")
    trusted: list[str] = key(
        list,
        "packages of yours that _target_ and strategy.method of config files and stored runs may name",
        "a list of packages of yours",
    )


REQUIRED = ("data", "model", "criterion", "granularity", "allocation", "schedule", "optimizer", "lr_schedule")
OPTIONAL = ("regularizer", "sparse_training")  # empty unless chosen


def keys() -> Iterator[Key]:
    """Yield every key: those of the schema, then those of the chosen parts."""
    yield from leaves(Config)
    yield from PART_KEYS


def leaves(schema: Any, prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a dataclass, those of nested ones included."""
    for item in fields(schema):
        if is_dataclass(item.default_factory):
            yield from leaves(item.default_factory, f"{prefix}{item.name}.")
        else:
            yield replace(item.metadata["key"], name=f"{prefix}{item.name}")


def names(part: str) -> list[str]:
    """Return the keys of a part that the schema knows whole: of `train`, of the config itself (empty); else nothing."""
    if not part:
        return [item.name for item in fields(Config)]
    return [item.name for item in leaves(Config) if item.name.rpartition(".")[0] == part]


def allowed(name: str) -> str | None:
    """Return what a key may be, in words; None for a key that is not described."""
    return next((item.allowed for item in keys() if item.name == name), None)
