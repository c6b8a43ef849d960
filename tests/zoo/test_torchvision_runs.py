"""Torchvision's classification networks: what a run reports is what its files hold. With `--write` for the docs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

import pytest
import zoo_runs
from torch import nn

from prunelab.data.synthetic import synthetic

LARGEST = 60_000_000  # parameters
CLASSES = 4
SIZES = {"inception_v3": 80, "maxvit_t": 224}  # the images' height and width; 64 for the others
OPTIONS = (
    ("strategy=l1", "amount=0.5"),
    ("strategy=ln_structured", "amount=0.3"),
    ("strategy=global", "amount=0.8", "rewind=0"),
    ("strategy=channel", "amount=0.3"),
    ("strategy=lamp", "amount=0.5", "criterion=taylor"),
    ("strategy=nm",),
    ("strategy=block", "amount=0.3"),
    ("strategy=channel", "amount=0.5", "allocation=global"),
)


def networks() -> list[str]:
    """Return the names of all classification networks up to `LARGEST`."""
    from torchvision import models  # takes seconds

    sizes = {
        name: [w.meta["num_params"] for w in models.get_model_weights(name)] for name in models.list_models(models)
    }
    return [name for name, size in sizes.items() if max(size) <= LARGEST]


def check(name: str, options: tuple[str, ...], size: int = 64) -> zoo_runs.Row:
    shape = [3, size, size]
    data = ("data=synthetic", f"data.shape=[3,{size},{size}]", "data.examples=16", f"data.classes={CLASSES}")
    given = ["model=torchvision", f"model.name={name}", *data, "train.epochs=1", "schedule.rounds=1"]
    return zoo_runs.row(name, options, given, lambda: build(name), synthetic(16, shape, CLASSES).test)


def build(name: str) -> nn.Module:
    from torchvision import models

    plain = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, num_classes=CLASSES, **plain)


def rows(names: Iterable[str]) -> list[zoo_runs.Row]:
    """Run each network with the options of its turn; print and return the rows, and fail at the end."""
    found, failed = [], []
    for number, name in enumerate(names):
        begun = time.monotonic()
        try:
            found.append(check(name, OPTIONS[number % len(OPTIONS)], SIZES.get(name, 64)))
            print(zoo_runs.line(found[-1]), f"{time.monotonic() - begun:.0f} s", flush=True)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
            print(failed[-1], flush=True)
    if "--write" in sys.argv:
        zoo_runs.write("Torchvision", found)
    assert not failed
    return found


def test_a_small_network() -> None:
    assert check("squeezenet1_1", OPTIONS[1], size=32).found is not None


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_network() -> None:
    assert all(row.found is not None for row in rows(networks()))


if __name__ == "__main__":
    rows([name for name in sys.argv[1:] if name != "--write"] or networks())
