"""The networks that break pruning tools, under several options. Run as a script, it writes the docs' table."""

from __future__ import annotations

import sys
from itertools import product

import odd_networks
import pytest
import zoo_runs
from torch import nn

from prunelab.data.synthetic import synthetic

SHAPE, EXAMPLES = (1, 28, 28), 100
OPTIONS = (
    ("strategy=l1", "amount=0.5", "schedule.rounds=1"),
    ("strategy=global", "amount=0.5", "schedule.rounds=2", "rewind=0", "export=[safetensors]"),
    ("strategy=ln_structured", "schedule.rounds=1", "amount=0.3", "finetune.distill.alpha=0.5"),
    ("strategy=channel", "amount=0.5", "schedule.rounds=1"),
    ("strategy=uniform", "amount=0.8", "sparse_training=rigl", "sparse_training.every=1"),
    ("strategy=lottery_ticket", "schedule.rounds=1", "amount=0.3", "control=random_masks"),
    ("strategy=nm", "export=[onnx]"),
    ("strategy=random", "schedule.rounds=1", "amount=0.5", "criterion=taylor", "quantize=int8_weight"),
)
NETWORKS = [
    name
    for name, kind in vars(odd_networks).items()
    if isinstance(kind, type) and issubclass(kind, nn.Module) and kind.__module__ == odd_networks.__name__
]
CASES = list(product(NETWORKS, OPTIONS))
QUICK = ("Tied", "Repeated", "Spectral", "HeadFirst", "InPlace", "BFloat16", "Lazy", "Shuffled")


def check(name: str, options: tuple[str, ...]) -> zoo_runs.Row:
    data = ("data=synthetic", f"data.examples={EXAMPLES}")
    given = [f"model._target_=odd_networks.{name}", "trusted=[odd_networks]", *data, "train.epochs=1"]
    return zoo_runs.row(name, options, given, lambda: build(name), synthetic(EXAMPLES, SHAPE).test)


def build(name: str) -> nn.Module:
    model: nn.Module = getattr(odd_networks, name)()
    if name.startswith("Lazy"):
        model(synthetic(10, SHAPE).test.inputs)
    return model


@pytest.mark.parametrize(("name", "options"), list(zip(QUICK, OPTIONS, strict=True)))
def test_one_option_of_each(name: str, options: tuple[str, ...]) -> None:
    check(name, options)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES)
def test_odd_networks(name: str, options: tuple[str, ...]) -> None:
    check(name, options)


if __name__ == "__main__":
    rows = []
    for name, options in CASES:
        rows.append(check(name, options))
        print(zoo_runs.line(rows[-1]), flush=True)
    if "--write" in sys.argv:
        zoo_runs.write("Odd networks", rows)
