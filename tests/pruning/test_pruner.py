"""The pruner as a user of the library meets it: own training loops, reports, iterations, undoing, performance."""

import copy
import itertools
import time
import warnings

import pytest
import torch
import torch.nn.functional as F
from networks_to_prune import SIZE, HeadFirst, batch, drawn, mlp, train
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

from prunelab.errors import ConfigError
from prunelab.models.lenet import LeNet
from prunelab.pruning import schedules
from prunelab.pruning.allocation.nm import NM
from prunelab.pruning.granularity.channel import Channel
from prunelab.pruning.pruner import Pruner


def loader(examples=40, size=8):
    inputs, labels = batch(size=examples)
    return DataLoader(TensorDataset(inputs, labels), size)


def test_your_own_loop():
    """Ten lines: prune in rounds, train in between, look at the result."""
    model, data = drawn(mlp), loader()
    pruner = Pruner(model, "taylor", "weight", "global", exclude=["2.*"], data=data, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for amount in schedules.cubic(rounds=5, sparsity=0.8):
        pruner.prune(amount)
        for inputs, labels in data:
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    assert pruner.summary().sparsity == pytest.approx(0.8)
    pruner.detach()
    assert int((model[0].weight == 0).sum()) == 24


def test_channels_of_a_resnet_by_one_ranking_of_taylor_scores():
    from torchvision.models import resnet18

    model = drawn(lambda: resnet18(num_classes=10))
    generator = torch.Generator().manual_seed(0)
    data = [(torch.randn(8, 3, 64, 64, generator=generator), torch.randint(10, (8,), generator=generator))]
    pruner = Pruner(model, "taylor", "channel", "global", data=data, example=data[0][0])
    channels = sum(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    report = pruner.prune(0.4)
    left = 0
    for item in pruner.items:
        kept = item.kept.flatten(1)
        assert torch.equal(kept.any(1), kept.all(1)), item.name  # whole channels
        assert not item.parameter[~kept.any(1)].any()
        left += int(kept.any(1).sum())
    assert left == channels - round(0.4 * channels)
    assert "fc.weight" not in pruner.masks
    assert model.fc.weight.all()
    assert report.kept == sum(int((item.parameter != 0).sum()) for item in pruner.items)
    densities = {round(float(item.kept.flatten(1).any(1).float().mean()), 3) for item in pruner.items}
    assert len(densities) > 5  # one ranking, not the same fraction of each


def test_the_taylor_ranking_of_channels_is_the_gradient_s():
    """By hand: (g·w)², averaged over two batches, its root mean square over each channel."""
    model, data = drawn(mlp), loader(16)
    pruner = Pruner(model, "taylor", "channel", "global", data=data)
    score = torch.zeros(5, SIZE, dtype=torch.float64)
    for inputs, labels in data:
        model.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        score += (model[0].weight.grad.double() * model[0].weight.double()).square().detach() / 2
    order = score.square().mean(1).sqrt().argsort()
    pruner.prune(0.4)
    assert (~pruner.masks["0.weight"].kept.any(1)).nonzero().flatten().tolist() == sorted(order[:2].tolist())
    assert not model[0].bias[order[:2]].any()


def test_the_output_layer_is_found_by_running_the_model():
    by_definition, by_running = Pruner(HeadFirst(), granularity="channel"), None
    assert [item.name for item in by_definition.items] == ["head.weight", "body.1.weight"]
    by_running = Pruner(HeadFirst(), granularity="channel", example=torch.zeros(2, SIZE))
    assert [item.name for item in by_running.items] == ["body.1.weight", "body.3.weight"]
    everything = Pruner(HeadFirst(), granularity="channel", output_layer=True)
    assert len(everything.items) == 3
    spared = Pruner(HeadFirst(), output_layer=False, example=torch.zeros(2, SIZE))
    assert [item.name for item in spared.items] == ["body.1.weight", "body.3.weight"]


def test_reports_count_what_went():
    model = drawn(mlp)
    pruner = Pruner(model, granularity="channel", allocation="local")
    report = pruner.prune(0.4)
    assert (report.amount, report.pruned, report.kept, report.size) == (0.4, 2 * 7, 3 * 7, 35)  # weights and biases
    assert report.sparsity == pruner.masks.sparsity() == pytest.approx(0.4)
    assert 0 < report.milliseconds < 10_000
    assert str(report).startswith("pruned 14 weights in ")
    assert str(report).endswith("ms: 21 of 35 are left, sparsity 40.0%")
    summary = pruner.summary()
    assert [(t.name, t.shape, t.units, t.nonzero, t.size) for t in summary.tensors] == [
        ("0.weight", (5, SIZE), (3, 5), 18, 30),
        ("0.bias", (5,), (3, 5), 3, 5),
    ]
    assert summary.sparsity == pytest.approx(0.4)
    lines = [line.split() for line in str(summary).splitlines()]
    assert lines[2] == ["0.weight", "5×6", "3", "of", "5", "18", "30", "40.0%"]
    assert lines[-1] == ["all", "21", "35", "40.0%"]


def test_the_last_unit_stays_with_one_warning():
    pruner = Pruner(nn.Sequential(nn.Linear(4, 1)), allocation="local")
    with pytest.warns(UserWarning, match=r"^0\.weight is down to its last weight, which stays") as caught:
        report = pruner.prune(0.9)
    assert [str(w.message) for w in caught] == list(report.warnings)
    assert caught[0].filename == __file__
    assert pruner.prune(0.9).pruned == 0


def test_options_go_with_instances():
    pruner = Pruner(drawn(mlp), granularity=Channel(n=1, dim=1), allocation="local")
    assert [item.name for item in pruner.items] == ["0.weight", "2.weight"]
    pruner.prune(0.5)
    assert [int(item.kept.any(0).sum()) for item in pruner.items] == [3, 3]
    pruner = Pruner(drawn(mlp), allocation=NM(1, 2))
    pruner.prune()
    assert pruner.masks["0.weight"].kept.view(5, 3, 2).sum(2).eq(1).all()


def test_a_criterion_of_ones_own_sees_training_data_only_and_leaves_no_trace():
    model, seen = drawn(mlp).train(), []
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def score(evidence):
        for inputs, _ in evidence.batches(20):
            seen.append(len(inputs))
            evidence.model(inputs).sum().backward()
        assert not evidence.model.training
        assert evidence.names == ["0.weight", "2.weight"]
        for weight in evidence.weights:
            weight.data.fill_(7)
        return [torch.ones_like(weight) for weight in evidence.weights]

    pruner = Pruner(model, score, allocation="local", data=loader())
    pruner.prune(0.5)
    assert seen == [8, 8, 4]
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    for item in pruner.items:  # of equal scores the first go
        half = round(item.mask.numel() / 2)
        assert item.kept.flatten().tolist() == [False] * half + [True] * (item.mask.numel() - half)
        assert torch.equal(item.parameter, before[item.name] * item.mask)


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda e: [w.flatten() for w in e.values], r"criterion: gives \[30\] scores for 0\.weight \[5, 6\]"),
        (lambda e: [-w.abs() - 1 for w in e.values], "≥ 0"),
    ],
)
def test_scores_that_do_not_fit_are_refused(score, said):
    pruner = Pruner(drawn(mlp), score)
    with pytest.raises(ValueError, match=said):
        pruner.prune(0.5)
    assert pruner.masks.sparsity() == 0


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"criterion": "taylor"}, r"the criterion, or reconstruct, needs training data; give Pruner\(data=\.\.\.\)"),
        ({"criterion": "synflow"}, r"criterion=synflow: needs the shape of an example; give Pruner\(example=\.\.\.\)"),
        ({"criterion": "taylor", "data": []}, "data: has no batches left"),
        ({"criterion": "movement"}, "criterion=movement: needs optimizer steps"),
    ],
)
def test_what_a_criterion_lacks_is_said_in_one_line(how, said):
    with pytest.raises(ConfigError, match=f"^{said}") as caught:
        Pruner(drawn(mlp), **how).prune(0.5)
    assert "\n" not in str(caught.value)


def test_an_iterator_serves_for_one_pruning_only():
    pruner = Pruner(drawn(mlp), "snip", data=iter(list(loader())))
    pruner.prune(0.2)
    with pytest.raises(ConfigError, match="data: has no batches left; must give them anew at each call"):
        pruner.prune(0.2)


def test_a_loss_of_ones_own_takes_the_place_of_cross_entropy():
    model = drawn(mlp)
    pruner = Pruner(model, "snip", data=loader(8), loss=lambda outputs, labels: outputs.sum())
    inputs, _ = batch(size=8)
    model(inputs).sum().backward()
    for score, item in zip(pruner.score(), pruner.items, strict=True):
        torch.testing.assert_close(score, (item.parameter.grad.double() * item.parameter.double()).abs().detach())


def test_undone_puts_everything_back():
    model = drawn(mlp)
    pruner = Pruner(model, "random", allocation="local", seed=4)
    pruner.prune(0.3)
    before = {name: value.clone() for name, value in model.state_dict().items()}, pruner.masks.state()
    with pruner.undone():
        once = pruner.prune(0.5)
        inside = pruner.masks.state()
    assert once.pruned > 0
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    assert all(torch.equal(mask, before[1][name]) for name, mask in pruner.masks.state().items())
    pruner.prune(0.5)  # the same random numbers again
    assert all(torch.equal(mask, inside[name]) for name, mask in pruner.masks.state().items())


@pytest.mark.parametrize("allocation", ["local", "global", "uniform", "erk", "lamp", "row"])
@pytest.mark.parametrize("granularity", ["weight", "kernel"])
def test_iterations_end_at_the_same_count(allocation, granularity):
    counts = []
    for iterations in (1, 7):
        pruner = Pruner(
            drawn(LeNet), "synflow", granularity, allocation, example=torch.zeros(1, 1, 28, 28), iterations=iterations
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* is down to its last")
            pruner.prune(0.83)
        counts.append([int(item.kept.sum()) for item in pruner.items])
    if granularity == "weight":
        assert sum(counts[0]) == sum(counts[1])
    if allocation not in ("global", "lamp"):
        assert counts[0] == counts[1]


@pytest.mark.parametrize("iterations", [0, -1, 1.5, True])
def test_iterations_are_checked(iterations):
    with pytest.raises(ConfigError, match=rf"criterion\.iterations={iterations}: must be a whole number ≥ 1"):
        Pruner(drawn(mlp), iterations=iterations)


def test_each_iteration_takes_from_what_the_one_before_left():
    """With other random scores in each iteration, what is kept is still nested; its sizes are 0.1^(k/4) of all."""
    kept = []

    def score(evidence):
        kept.append(evidence.masks[0])
        return [torch.rand(40, 25)]

    pruner = Pruner(nn.Sequential(nn.Linear(25, 40)), score, iterations=4)
    pruner.prune(0.9)
    kept.append(pruner.items[0].kept)
    assert [int(mask.sum()) for mask in kept] == [1000, 562, 316, 178, 100]  # 1000 · 0.1^(k/4)
    assert all(not (later & ~earlier).any() for earlier, later in itertools.pairwise(kept))


def test_synflow_in_iterations_keeps_every_layer_alive_where_magnitude_at_initialisation_does_not():
    through = {}
    for criterion, iterations in (("synflow", 100), ("magnitude", 1)):
        model = drawn(LeNet)
        pruner = Pruner(model, criterion, example=torch.zeros(1, 1, 28, 28), iterations=iterations)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* is down to its last")
            pruner.prune(0.995)
        x = torch.ones(1, 1, 28, 28, dtype=torch.float64)
        weights = {item.name: item.parameter.detach().abs().double() for item in pruner.items}
        x = F.max_pool2d(F.conv2d(x, weights["conv1.weight"]), 2)
        x = F.max_pool2d(F.conv2d(x, weights["conv2.weight"]), 2).flatten(1)
        for name in ("fc1.weight", "fc2.weight", "fc3.weight"):
            x = x @ weights[name].T
        through[criterion] = float(x.sum())
    assert through["synflow"] > 0 == through["magnitude"]


def test_same_seed_same_masks_and_another_seed_others():
    found = []
    for seed in (0, 0, 1):
        pruner = Pruner(drawn(LeNet), "random", seed=seed)
        for _ in range(2):
            pruner.prune(0.5)
        found.append(torch.cat([item.mask.flatten() for item in pruner.items]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_detach_leaves_a_plain_network_with_zeros():
    model = drawn(mlp)
    pruner = Pruner(model, allocation="local")
    pruner.prune(0.5)
    zeros = model[0].weight.detach() == 0
    pruner.detach()
    assert bool((model[0].weight[zeros] == 0).all())
    train(model, torch.optim.SGD(model.parameters(), 0.1))
    assert model[0].weight[zeros].any()


@pytest.mark.slow
def test_pruning_a_resnet50_takes_little_longer_than_torch_s_global_unstructured():
    """Kept until after the other tests of time; the better of three of each."""
    from torchvision.models import resnet50

    model = resnet50()
    mine, theirs = [], []
    for _ in range(3):
        copied = copy.deepcopy(model)
        pairs = [(m, "weight") for m in copied.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        start = time.perf_counter()
        prune.global_unstructured(pairs, prune.L1Unstructured, amount=0.5)
        theirs.append(time.perf_counter() - start)
        pruner = Pruner(copy.deepcopy(model))
        start = time.perf_counter()
        pruner.prune(0.5)
        mine.append(time.perf_counter() - start)
    assert pruner.masks.sparsity() == pytest.approx(0.5, abs=1e-6)
    assert min(mine) <= 1.5 * min(theirs), (mine, theirs)
