"""Experiments on a GPU, of every model, criterion and callback: broken off and resumed, they end with the same bits."""

from pathlib import Path

import pytest
import torch
from conftest import numbers, overrides, undisturbed_and_resumed
from safetensors.torch import load_file

import prunelab

CONF = Path(__file__).parents[2] / "conf"


def every(group, *without):
    return [f"{group}={path.stem}" for path in sorted((CONF / group).glob("*.yaml")) if path.stem not in without]


CASES = [
    *([name] for name in every("model", "torchvision")),
    *([name, "criterion.examples=20"] for name in ("criterion=grasp", "criterion=obd", "criterion=snip")),
    *([name] for name in every("criterion", "grasp", "obd", "snip")),
    *([name] for name in every("regularizer", "dynamic_gates")),
    *([name, "sparse_training.every=1"] for name in every("sparse_training", "gsm")),
    ["model=lstm", "criterion=grasp", "criterion.examples=20"],
    ["model=lstm", "regularizer=l0"],
    ["model=lstm", "criterion=wanda"],
    ["model=lstm", "sparse_training=rigl", "sparse_training.every=1"],
    ["model=lstm", "strategy=channel"],
    ["model=lstm", "finetune.distill={}"],
    ["sparse_training=gsm", "finetune.epochs=4it", "schedule.every=4"],
    ["model=deep_mlp", "regularizer=dynamic_gates"],
    ["model=residual_lenet", "strategy=layer", "strategy.count=1"],
    ["strategy=lottery_ticket", "control=reinit"],
    ["strategy=channel"],
    ["strategy=nm"],
    ["optimizer=sgd", "lr_schedule=cosine", "rewind=2it"],
    ["finetune.distill={}"],
    ["data.shift=2", "data.flip=true"],
    ["data.shift=2", "data.flip=true", "train.graph=true"],
]


@pytest.mark.gpu
@pytest.mark.parametrize("choices", CASES, ids=",".join)
@pytest.mark.filterwarnings("ignore:.* is down to its last")
def test_resumed_on_a_gpu_it_ends_with_the_same_bits(choices, tmp_path):
    def run(folder):
        rounds = [] if "sparse_training=gsm" in choices else ["schedule.rounds=1"]
        more = ("device=cuda", *rounds, "train.batch_size=100", *choices)
        return prunelab.run(prunelab.compose(*overrides(folder, *more)))

    whole, again = undisturbed_and_resumed(run, tmp_path, 4)
    weights = load_file(whole.folder / "model.safetensors")
    assert all(torch.equal(weights[n], value) for n, value in load_file(again.folder / "model.safetensors").items())
    assert numbers(again.folder) == numbers(whole.folder)
