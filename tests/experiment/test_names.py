"""What names a stage: every key of the config changes the names of the stages whose result it changes, and no other."""

import dataclasses
import functools
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ABOVE

from prunelab import compose
from prunelab.config.compose import folder as conf
from prunelab.config.resolve import resolve
from prunelab.config.rounds import rounds
from prunelab.config.schema import OPTIONAL, REQUIRED, keys
from prunelab.config.spec import Spec
from prunelab.experiment import plan as plans
from prunelab.experiment import round as stages
from prunelab.experiment.bench import Bench
from prunelab.stages.stage import State

FEW = ("data=synthetic", "data.examples=40", "threads=1")
KINDS = ("init", "dense", "round")
BOTH = {"dense", "round"}


@functools.cache
def names(*overrides):
    """The names of the initial stage, the dense one and the first round's, each as if its parent were the same."""
    few = [item for item in FEW if "data=mnist" not in overrides or not item.startswith("data")]
    spec = resolve(compose(*few, *overrides))
    bench = Bench(spec, torch.device("cpu"))
    bench.load_data()
    first = rounds(spec, plans.target_sparsity(bench))[0]
    parent = State({}, stage="parent")
    made = (
        stages.init(bench),
        stages.dense(bench, parent, lambda row: None),
        stages.prune_and_finetune(bench, 1, first, parent, None, lambda row: None),
    )
    return dict(zip(KINDS, (stage.name for stage in made), strict=True))


def changed(before, after):
    return {kind for kind in KINDS if before[kind] != after[kind]}


def test_every_field_of_the_spec_is_in_exactly_one_list():
    lists = (*stages.EVERY, *stages.DENSE, *stages.ROUND, *stages.ELSEWHERE, *stages.UNNAMED)
    assert sorted(lists) == sorted(field.name for field in dataclasses.fields(Spec))


# Keys of the schema: (overrides, one more override that changes one key, the stages whose names change)
L0, TICKET, UNTIL = "regularizer=l0", "rewind=0", "schedule=until"
SCHEMA = {
    "seed": ((), "seed=1", {*KINDS}),
    "amount": ((), "amount=0.3", {"round"}),
    "reconstruct": ((), "reconstruct=obs", {"round"}),
    "tolerance": ((UNTIL,), "tolerance=0.1", set()),  # decides which round is the last one, not what is in a round
    "rewind": ((), TICKET, {"round"}),
    "control": ((TICKET,), "control=reinit", set()),  # names the stage `control`, after the ticket's own rounds
    "baseline": ((), "baseline=true", set()),  # names the stages `longer`
    "train.epochs": ((), "train.epochs=2", BOTH),
    "train.ema": ((), "train.ema=0.9", BOTH),
    "train.precision": ((), "train.precision=bf16", BOTH),
    "train.graph": ((), "train.graph=true", BOTH),
    "train.batch_size": ((), "train.batch_size=32", BOTH),
    "train.validate_every": ((), "train.validate_every=5", BOTH),
    "train.test": ((), "train.test=true", BOTH),
    "finetune.epochs": ((), "finetune.epochs=2", {"round"}),
    "finetune.lr": ((), "finetune.lr=rewind", {"round"}),
    "finetune.optimizer": ((), "finetune.optimizer={lr:0.01}", {"round"}),
    "finetune.lr_schedule": (("lr_schedule=steps",), "finetune.lr_schedule={gamma:0.2}", {"round"}),
    "finetune.distill.alpha": ((), "finetune.distill.alpha=0.5", {"round"}),
    "finetune.distill.temperature": (("finetune.distill.alpha=0.5",), "finetune.distill.temperature=2", {"round"}),
    "prune.include": ((), "prune.include=[fc*.weight]", {"round"}),
    "prune.exclude": ((), "prune.exclude=[fc3.weight]", {"round"}),
    "prune.output_layer": ((), "prune.output_layer=false", {"round"}),
    "strategy.name": ((), "strategy.name=another", set()),  # the axes say everything
    "strategy.method": (("strategy=custom",), "strategy.method=null", {"round"}),
    "strategy.rules": (("strategy=rules",), "strategy.rules=[{match: Conv2d}]", {"round"}),
    "strategy.layers": (("model=residual_lenet", "allocation=local"), "strategy.layers=true", {"round"}),
    "strategy.count": (("model=residual_lenet", "strategy=layer", "amount=null"), "strategy.count=2", {"round"}),
    "strategy.threshold": (("model=residual_lenet", "strategy=layer"), "strategy.threshold=0.5", {"round"}),
    "compact": (("strategy=ln_structured",), "compact=true", set()),
    "round_to": (("strategy=ln_structured", "compact=true"), "round_to=8", set()),
    "export": ((), "export=[safetensors]", set()),
    "quantize": ((), "quantize=int8_weight", set()),
    "latency": ((), "latency=true", set()),
    "threads": ((), "threads=2", BOTH),  # the bits depend on it
    "outputs": ((), "outputs=elsewhere", set()),
    "reuse": ((), "reuse=false", set()),
    "trusted": ((), "trusted=[mine]", set()),
    "reference": ((), "reference={value: 1}", set()),
    "data.validation": ((), "data.validation=0.3", BOTH),
    "data.label_noise": ((), "data.label_noise=0.2", BOTH),
    "data.scale": (("data=mnist", "data.limit=100"), "data.scale=unit", BOTH),
    "data.shift": ((), "data.shift=1", BOTH),
    "data.flip": ((), "data.flip=true", BOTH),
    "model.init": ((), "model.init=orthogonal", {"init"}),
    "optimizer.decay": ((), "optimizer.decay=weights", BOTH),
    "model.checkpoint": ((), "model.checkpoint=FILE", {"init", "dense"}),
    "prune.adopt_zeros": (("model.checkpoint=FILE",), "prune.adopt_zeros=false", {"init"}),
    "criterion.iterations": ((), "criterion.iterations=3", {"round"}),
    "schedule.rounds": (("schedule=iterative",), "schedule.rounds=7", set()),
    "schedule.compression": (("schedule=linear", "schedule.compression=3"), "schedule.compression=4", {"round"}),
    "schedule.macs": (
        ("strategy=channel", "schedule=linear", "schedule.macs=0.5"),
        "schedule.macs=0.4",
        {"round"},
    ),
}
GROUPS = (*REQUIRED, *OPTIONAL)
ELSEWHERE = ("device",)  # the only other device that each machine has is none


def test_every_key_of_the_schema_is_here():
    parts = {key.name.rpartition(".")[2]: key.name for key in keys() if key.name.split(".")[0] in GROUPS}
    options = {name for name in parts.values() if name in {f"{group}.{key}" for group, _, key in OPTIONS}}
    assert {key.name for key in keys()} - {*GROUPS, *ELSEWHERE} - options == set(SCHEMA) - options


@pytest.mark.parametrize("key", SCHEMA)
def test_a_key_of_the_schema_changes_the_names_that_it_should(key, tmp_path):
    given, override, expected = SCHEMA[key]
    if key in ("model.checkpoint", "prune.adopt_zeros"):
        weights = Bench(resolve(compose(*FEW, "seed=5")), torch.device("cpu")).initial
        weights["fc1.weight"][0] = 0
        torch.save(weights, tmp_path / "net.pt")
        given, override = ([o.replace("FILE", str(tmp_path / "net.pt")) for o in some] for some in (given, [override]))
        override = override[0]
    assert changed(names(*given), names(*given, override)) == expected


# Keys of the parts: every key of every YAML file

NEEDED = {  # what makes the choice possible
    "schedule/cubic": ("amount=null", "schedule.sparsity=0.5"),
    "schedule/geometric": ("amount=null", "schedule.sparsity=0.5"),
    "schedule/linear": ("amount=null", "schedule.sparsity=0.5"),
    "schedule/gradual": ("amount=null", "schedule.sparsity=0.5", "finetune.epochs=900"),
    "granularity/channel": ("prune.output_layer=false", "allocation=local"),
    "granularity/block": ("allocation=local",),
    "allocation/nm": ("strategy=nm",),
    "allocation/threshold": ("strategy=threshold",),
    "regularizer/dynamic_gates": ("model=residual_lenet",),
}
VALUES = {  # another value, where a larger number or `not` is none
    "data/synthetic.shape": "[1,32,32]",
    "criterion/obd.hessian": "hutchinson",
    "granularity/channel.n": "inf",
    "granularity/block.size": "[2,2]",
    "allocation/nm.n": "1",
    "allocation/nm.m": "8",
    "lr_schedule/steps.milestones": "[0.4,0.8]",
    "model/conv6.pairs": "2",
    "model/lstm.embedding": "32",
    "model/mlp.hidden": "[30]",
    "model/resnet18.name": "resnet34",
    "model/torchvision.name": "resnet34",
    "model/vit_tiny.patch": "7",
    "model/vit_tiny.heads": "2",
    "model/vit_tiny.dim": "32",
    "regularizer/dynamic_gates.layers": "[blocks.*]",
    "regularizer/l0.granularity": "channel",
    "schedule/ramp.step": "0.05",
    "sparse_training/rigl.decay": "constant",
    "sparse_training/set.decay": "cosine",
    "sparse_training/sparse_momentum.decay": "constant",
}
SAME = {  # (choice, key) → stages whose names change, where it is not all that the group changes
    "schedule/iterative.rounds": set(),
    "schedule/ramp.rounds": set(),
    "schedule/until.rounds": set(),
    "schedule/ramp.step": set(),  # the first round has the first amount
}
UNREADABLE_HERE = ("data/cifar10", "data/fashion_mnist", "data/kmnist")  # need a download; `limit` is as mnist's
GROUP_NAMES = {
    "data": {*KINDS},
    "model": {*KINDS},
    "criterion": {"round"},
    "granularity": {"round"},
    "allocation": {"round"},
    "schedule": {"round"},
    "optimizer": BOTH,
    "lr_schedule": BOTH,
    "regularizer": {"dense"},
    "sparse_training": {"round"},
}


def options():
    """(group, choice, key) of every option in conf/."""
    for group in GROUPS:
        for file in sorted((Path(ABOVE) / "conf" / group).glob("*.yaml")):
            content = yaml.safe_load(file.read_text()) or {}
            own = content.get(group, {} if group == "sparse_training" else content)
            yield from ((group, file.stem, key) for key in own if key not in ("_target_", "defaults", "amount"))


OPTIONS = [
    (group, choice, key)
    for group, choice, key in options()
    if f"{group}/{choice}" not in UNREADABLE_HERE and (group, key) not in (("schedule", "tolerance"),)
]


def another(group, choice, key, value):
    given = VALUES.get(f"{group}/{choice}.{key}")
    if given is not None:
        return given
    if isinstance(value, bool):
        return str(not value).lower()
    if value is None:
        return {"sparsity": "0.6", "limit": "200", "density": "0.5", "lr": "0.01"}[key]
    return str(value + 1) if isinstance(value, int) else str(value / 2 if value else 0.25)


def test_the_yaml_files_are_those_that_are_composed():
    assert conf() == Path(ABOVE) / "conf"
    assert len(OPTIONS) > 50


LARGE = ("resnet18", "torchvision", "conv4", "conv6")
PARAMS = [pytest.param(*one, marks=[pytest.mark.slow] if one[1] in LARGE else []) for one in OPTIONS]


@pytest.mark.parametrize(("group", "choice", "key"), PARAMS, ids=lambda value: value)
def test_an_option_of_a_part_changes_the_names_that_it_should(group, choice, key):
    if group == "schedule" and key == "sparsity" and "sparsity" not in str(NEEDED.get(f"{group}/{choice}")):
        return  # amount decides
    if (choice, key) == ("one_shot", "rounds"):
        return  # is 1
    needed = NEEDED.get(f"{group}/{choice}", ())
    chosen = f"{group}={choice}"
    given = (*(n for n in needed if n.startswith("strategy=")), chosen, *(n for n in needed if "strategy=" not in n))
    given = ("data=mnist", "data.limit=100", *given) if choice == "mnist" else given
    file = yaml.safe_load((Path(ABOVE) / "conf" / group / f"{choice}.yaml").read_text())
    value = (file.get(group) if isinstance(file.get(group), dict) else file)[key]
    override = f"{group}.{key}={another(group, choice, key, value)}"
    before, after = names(*given), names(*given, override)
    expected = SAME.get(f"{group}/{choice}.{key}", GROUP_NAMES[group])
    found = changed(before, after)
    if group in ("data", "model"):  # `init` is named by its tensors and its source, whatever the options are
        found, expected = found - {"init"}, BOTH
    if group == "regularizer":
        found -= {"init", "round"}  # gates may be parameters, and prunable
    assert found == expected


def test_a_criterion_that_records_names_the_training_that_it_watches():
    spec = resolve(compose(*FEW, "criterion=movement"))
    other = dataclasses.replace(spec, criterion=dataclasses.replace(spec.criterion, source="edited"))
    found = set()
    for each in (spec, other):
        bench = Bench(each, torch.device("cpu"))
        bench.load_data()
        found.add(stages.dense(bench, State({}, stage="parent"), lambda row: None).name)
    assert len(found) == 2
