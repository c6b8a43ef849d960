"""train.graph: which steps are replayed and which are not; on a GPU, with the bits of steps one by one."""

from __future__ import annotations

import dataclasses
import logging
import random

import pytest
import torch
from many_trainings import IMAGES, OPTIMIZERS, lenet, net, training
from torch import nn
from training_runs import SPEC, never_waiting

import prunelab
from prunelab import Pruner
from prunelab.config.resolve import resolve
from prunelab.errors import ConfigError
from prunelab.experiment import executor
from prunelab.experiment.bench import Bench
from prunelab.runtime import device
from prunelab.runtime.process_state import unchanged
from prunelab.training import batched_fit
from prunelab.training.batched_fit import Epoch
from prunelab.training.callbacks.base import Callback
from prunelab.training.cuda_graph import WARM, Graph, graphed


def adding(total: torch.Tensor):
    def step(x: torch.Tensor) -> torch.Tensor:
        total.add_(x.sum())
        return total

    return step


def replaying(step, inputs):
    """A capture that calls the step again, as a graph does, with what is in the captured inputs then."""
    replaying.calls = 0

    def replay():
        replaying.calls += 1
        return step(*inputs)

    return replay


def test_steps_are_replayed_but_for_the_first_and_those_of_another_shape_or_key():
    total, graph = torch.zeros(()), None
    graph = Graph(adding(total), replaying)
    given = [torch.full((2,), float(n)) for n in range(8)]
    found = [float(graph(x, key=1)) for x in given[:6]]
    assert found == [float(sum(2 * n for n in range(m + 1))) for m in range(6)]
    assert replaying.calls == 6 - WARM
    assert float(graph(torch.ones(3), key=1)) == found[-1] + 3  # the last batch
    assert float(graph(torch.ones(2), key=2)) == found[-1] + 5  # another learning rate
    assert replaying.calls == 6 - WARM
    assert float(graph(torch.ones(2), key=1)) == found[-1] + 7
    assert replaying.calls == 7 - WARM


def test_a_step_that_cannot_be_captured_runs_as_it_is_and_the_log_says_so(caplog):
    def refuse(step, inputs):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    caplog.set_level(logging.INFO)
    total = torch.zeros(())
    graph = Graph(adding(total), refuse)
    assert [float(graph(torch.ones(1))) for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    (message,) = caplog.messages
    assert message == (
        "train.graph=true: a step cannot be captured (operation not permitted); steps run one kernel at a time"
    )


def test_a_step_that_draws_on_the_host_is_not_captured(caplog):
    caplog.set_level(logging.INFO)
    drawn = []

    def step(x):
        drawn.append(random.random())
        return x

    graph = Graph(step, replaying)
    for _ in range(6):
        graph(torch.ones(1))
    assert len(set(drawn)) == 6
    assert "random numbers on the host" in caplog.text


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"callbacks": [Callback()]}, "Callback acts in each step"),
        ({"lr_factor": lambda done: 1 / (done + 1)}, "lr_schedule changes the learning rate at every step"),
        ({"spec": dataclasses.replace(SPEC, seed=0, validate_every=3)}, "train.validate_every validates between steps"),
    ],
)
def test_steps_that_differ_run_one_by_one_and_the_log_says_so(how, said, caplog):
    caplog.set_level(logging.INFO)
    ends = []
    for steps in (None, graphed):
        one = training(net(0))
        one = dataclasses.replace(one, **how, **({} if steps is None else {"steps": steps}))
        one.train_epoch()
        ends.append([p.tolist() for p in one.model.parameters()])
    assert ends[0] == ends[1]
    assert f"train.graph=true: {said}; steps run one kernel at a time" in caplog.text


def test_a_graph_needs_a_gpu():
    bench = Bench(resolve(prunelab.compose("train.graph=true", "model=lenet_300_100")), torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"^train\.graph=true: device=cpu has no CUDA graphs; needs device=cuda$"):
        executor.choose(bench, [])


def on_gpu(make, seeds, optimizer, **how):
    data = IMAGES.to(torch.device("cuda"))
    made = [training(make(seed).cuda(), optimizer, data, seed, batch_size=4, iterations=30, **how) for seed in seeds]
    for one in made:
        Pruner(one.model).prune(0.5)
    return made


def ends(made):
    return [[tensor.cpu().numpy().tobytes() for tensor in one.model.state_dict().values()] for one in made]


def dropping(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.BatchNorm1d(20), nn.Dropout(), nn.Linear(20, 10))


def halved(done: int) -> float:
    return 0.5 ** (done // 15)


@pytest.mark.gpu
@pytest.mark.parametrize("lr_factor", [None, halved])
@pytest.mark.parametrize("make", [lenet, dropping])
@pytest.mark.parametrize("name", ["adam", "sgd", "momentum"])
def test_a_graph_has_the_bits_of_steps_one_by_one(name, make, lr_factor):
    found = []
    with unchanged():
        device.prepare("cuda", 1)
        for steps in (None, graphed):
            made = on_gpu(make, [0], OPTIMIZERS[name], lr_factor=lr_factor)
            for one in made:
                how = {} if steps is None else {"steps": steps}
                means = [dataclasses.replace(one, **how).train_epoch() for _ in range(3)]
            found.append((ends(made), means))
    assert found[0] == found[1]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_several_networks_on_a_gpu(name):
    """A graph has the bits of eager steps; a network's bits depend neither on its neighbours nor on a NaN in one."""
    with unchanged():
        device.prepare("cuda", 1)

        def run(seeds, graph, lr=None):
            made = on_gpu(lenet, seeds, OPTIMIZERS[name])
            if lr is not None:
                made[1].optimizer.param_groups[0]["lr"] = lr
            for one in made:
                one.position.begin_epoch(one.spec, 10, torch.device("cuda"))
            order = torch.arange(40, device="cuda").split(4)
            batched_fit.train([Epoch(one, order, "", graph) for one in made], 8)
            return ends(made)

        eager = run(range(5), False)
        assert run(range(5), True) == eager
        assert run([0, 2, 3], False)[0] == eager[0]
        assert [run(range(5), False, 1e30)[n] for n in (0, 2, 3, 4)] == [eager[n] for n in (0, 2, 3, 4)]


@pytest.mark.gpu
def test_several_networks_never_wait_for_the_gpu():
    with unchanged():
        device.prepare("cuda", 1)
        stack = batched_fit.Stack(on_gpu(lenet, range(3), OPTIMIZERS["adam"]), 4)
        index, rates = torch.arange(16, device="cuda").view(4, 4), stack.rates(3)
        stack.step(index, rates[0])
        with never_waiting():
            stack.step(index, rates[1])
