"""Time prunelab's training loop against a bare one on the same data, and against the matrix products alone."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import prunelab
from prunelab.data.dataset import Split
from prunelab.data.mnist import mnist
from prunelab.models.lenet import LeNet, LeNet300100
from prunelab.training import loop
from prunelab.training.optimizers import build_optimizer
from prunelab.training.spec import TrainSpec

MODELS: dict[str, Callable[[], nn.Module]] = {"lenet": LeNet, "lenet_300_100": LeNet300100}


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="lenet")
    parser.add_argument("--examples", type=int, default=20_000, help="of an epoch")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="epochs of each loop, in turn")
    return parser.parse_args()


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """Return prunelab's default optimizer."""
    return build_optimizer(torch.optim.Adam, model, lr=0.001, fused=True)


def bare(batch_size: int, train: Split, model: nn.Module) -> Callable[[], None]:
    """Return one epoch of the shortest loop that trains: no validation, no masks, no records; inputs are floats."""
    inputs, labels = train.batch(slice(None))
    optimizer = adam(model)

    def epoch() -> None:
        for index in torch.randperm(len(labels)).split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[index]), labels[index]).backward()
            optimizer.step()

    return epoch


def ours(batch_size: int, train: Split, model: nn.Module, validation: Split) -> Callable[[], object]:
    """Return one epoch of `prunelab.training.loop.fit`, as experiments call it."""
    spec = TrainSpec(iterations=loop.batches(len(train), batch_size), batch_size=batch_size, seed=0)
    optimizer = adam(model)
    return lambda: list(loop.fit(model, optimizer, train, validation, spec))


def products(batch_size: int, train: Split, model: nn.Module) -> Callable[[], None]:
    """Return the matrix products of one epoch alone: forward, and backward to weights and to inputs."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    made: list[tuple[Tensor, Tensor]] = []
    for number, layer in enumerate(layers):
        x, weight = torch.randn(batch_size, layer.in_features), layer.weight.detach().clone()
        gradient = torch.randn(batch_size, layer.out_features)
        made += [(x, weight.t()), (gradient.t(), x)] + ([(gradient, weight)] if number else [])

    def epoch() -> None:
        for _ in range(loop.batches(len(train), batch_size)):
            for left, right in made:
                torch.mm(left, right)

    return epoch


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Time all loops in turn and print one line of JSON: median seconds per step of each."""
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    data = mnist(limit=args.examples)
    masked = MODELS[args.model]()
    prunelab.Pruner(masked).prune(0.5)
    one_batch = Split(*data.validation.batch(slice(loop.EVALUATION_BATCH)))
    loops: dict[str, Callable[[], object]] = {
        "bare": bare(args.batch_size, data.train, MODELS[args.model]()),
        "prunelab": ours(args.batch_size, data.train, MODELS[args.model](), one_batch),
        "prunelab, masked": ours(args.batch_size, data.train, masked, one_batch),
    }
    if args.model == "lenet_300_100":
        loops["matrix products"] = products(args.batch_size, data.train, masked)
    for call in loops.values():
        call()  # warms up
    took: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(args.repeats):
        for name, call in loops.items():
            took[name].append(timed(call))
    steps = loop.batches(len(data.train), args.batch_size)
    print(json.dumps({name: median(seconds) / steps for name, seconds in took.items()}))


if __name__ == "__main__":
    main()
