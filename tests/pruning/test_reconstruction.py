"""The update of the weights that stay: by hand, against lstsq, on the data, and what is refused."""

import copy
import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks_to_prune import Cosine, HeadFirst, Repeated, Tied, Twins, batch, drawn, mlp
from torch import nn

from prunelab.errors import ConfigError
from prunelab.pruning import reconstruction
from prunelab.pruning.allocation.nm import NM
from prunelab.pruning.criteria.base import Evidence
from prunelab.pruning.granularity.channel import Channel
from prunelab.pruning.pruner import Pruner
from prunelab.pruning.reconstruction import DAMPING, inputs, least_squares


def normal(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def definite(size, seed=0, groups=1):
    x = normal(groups, size, 3 * size, seed=seed)
    return x @ x.mT


def damped(x):
    """H of inputs [examples, inputs]."""
    h = 2 * x.T @ x / len(x)
    return h + DAMPING * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype)


def error(new, old, x):
    """Squared output error of a weight on inputs [positions, inputs]."""
    return float(((new - old).flatten(1).double() @ x.double().T).square().sum())


def test_one_weight_is_the_formula_of_obs():
    w, h, q = normal(1, 6), definite(6), 2
    mask = torch.arange(6)[None] != q
    inverse = torch.from_numpy(np.linalg.inv(h[0].numpy()))
    expected = w[0] - w[0, q] / inverse[q, q] * inverse[:, q]
    assert torch.allclose(least_squares(w, mask, h)[0], expected, atol=1e-12)


def test_one_after_the_other_gives_the_same():
    """OBS twice, in either order, on the inverse of what is left."""
    w, h = normal(1, 5), definite(5)
    for order in ((1, 3), (3, 1)):
        now, left = w[0].clone().numpy(), list(range(5))
        for q in order:
            inverse, i = np.linalg.inv(h[0].numpy()[np.ix_(left, left)]), left.index(q)
            now[left] -= now[q] / inverse[i, i] * inverse[:, i]
            left.remove(q)
        mask = torch.tensor([[True, False, True, False, True]])
        assert np.allclose(least_squares(w, mask, h)[0].numpy(), now, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_mask_is_solved_as_lstsq_does(seed):
    """Rows with masks of their own, a whole row, an empty row, two equal rows."""
    w, x = normal(6, 7, seed=seed), normal(30, 7, seed=9 + seed)
    mask = normal(6, 7, seed=20 + seed) > 0
    mask[1], mask[2], mask[4] = True, False, mask[3]
    found = least_squares(w, mask, (x.T @ x)[None])
    for row, kept, old in zip(found, mask, w, strict=True):
        expected = torch.zeros(7, dtype=torch.float64)
        if kept.any():
            expected[kept] = torch.linalg.lstsq(x[:, kept], (x @ old)[:, None]).solution[:, 0]
        assert torch.allclose(row, expected, atol=1e-10)
        assert not row[~kept].any()


def test_each_group_has_its_own_curvature():
    w, h, mask = normal(4, 3, 1, 1), definite(3, groups=2), normal(4, 3, 1, 1, seed=5) > 0
    found = least_squares(w, mask, h)
    for i in range(2):
        part = slice(2 * i, 2 * i + 2)
        assert torch.equal(found[part], least_squares(w[part], mask[part], h[i : i + 1]))


CONVOLUTIONS = [
    nn.Conv2d(4, 6, 3),
    nn.Conv2d(4, 6, (2, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
    nn.Conv2d(4, 6, (4, 3), padding="same", dilation=(1, 2)),
    nn.Conv2d(4, 6, 3, padding="valid", groups=2),
    nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="reflect"),
    nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="circular"),
    nn.Conv1d(4, 6, 3, padding=2, stride=2),
    nn.Conv3d(4, 6, (1, 2, 3), padding=(0, 1, 1)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_patches_times_rows_are_the_convolution(layer):
    layer = copy.deepcopy(layer).double()
    x = normal(2, 4, *(7, 8, 5)[: len(layer.kernel_size)])
    rows = layer.weight.detach().flatten(1).unflatten(0, (layer.groups, -1))  # [groups, out/groups, inputs]
    products = inputs(layer, x) @ rows.mT  # [groups, positions, out/groups]
    outputs = (layer(x) - layer.bias.view(-1, *[1] * len(layer.kernel_size))).detach()
    expected = outputs.movedim(1, -1).flatten(0, -2).unflatten(1, (layer.groups, -1)).movedim(1, 0)
    assert torch.allclose(products, expected, atol=1e-12)


def test_patches_are_those_of_unfold():
    x, layer = normal(3, 2, 5, 6), nn.Conv2d(2, 1, (2, 3), padding=1)
    assert torch.equal(inputs(layer, x)[0], F.unfold(x, (2, 3), padding=1).mT.flatten(0, 1))
    assert torch.equal(inputs(layer, x[0])[0], F.unfold(x[:1], (2, 3), padding=1).mT.flatten(0, 1))  # without a batch


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.grouped, self.out = nn.Conv2d(4, 4, 3, groups=2, padding=1), nn.Linear(4 * 9, 3)

    def forward(self, x):
        return self.out(torch.relu(self.grouped(self.body(x))).flatten(1))


def images(examples=60):
    return normal(examples, 2, 5, 5, seed=3).float(), torch.zeros(examples, dtype=torch.long)


def pruned(build, data, amount=0.5, reconstruct="obs", model=None, **how):
    """The network pruned and updated, the one before, and the pruner."""
    model = drawn(build) if model is None else model
    before = copy.deepcopy(model).eval()
    how = {"allocation": "local", "output_layer": True, **how}
    pruner = Pruner(model, data=[data], **how)
    pruner.prune(amount, reconstruct=reconstruct)
    return model.eval(), before, pruner


def seen(model, x, name):
    """The inputs of a layer, [groups, positions, inputs], while the network runs."""
    found = []
    layer = model.get_submodule(name)
    handle = layer.register_forward_pre_hook(lambda module, args: found.append(inputs(module, args[0].double())))
    with torch.no_grad():
        model(x)
    handle.remove()
    return torch.cat(found, 1)


@pytest.mark.parametrize("allocation", ["local", "global", "row", "lamp"])
@pytest.mark.parametrize("build", [mlp, Convolutional, HeadFirst, Twins, Repeated])
def test_masks_stay_exact_and_each_layers_error_falls(build, allocation):
    data = images() if build is Convolutional else batch(size=60)
    model, before, pruner = pruned(build, data, allocation=allocation)
    _, _, plain = pruned(build, data, 0.5, None, allocation=allocation)
    fell = 0
    for item, other in zip(pruner.items, plain.items, strict=True):
        assert torch.equal(item.kept, other.kept)  # the criterion alone decides
        assert not item.parameter[~item.kept].any()
        name = item.name.removesuffix(".weight")
        old = before.get_parameter(item.name).detach()
        masked = old * item.kept
        groups = getattr(item.module, "groups", 1)
        errors = []
        for weight in (item.parameter.detach(), masked):
            x = seen(model, data[0], name)
            parts = zip(weight.chunk(groups), old.chunk(groups), x, strict=True)
            errors.append(sum(error(a, b, each) for a, b, each in parts))
        if build in (mlp, Convolutional, HeadFirst):  # else the layer's other uses count as well
            assert errors[0] <= errors[1] * (1 + 1e-9)
            fell += errors[0] < 0.9 * errors[1]
    assert fell or build in (Twins, Repeated)


def test_layers_see_what_the_updated_layers_before_them_give():
    """Two layers by hand: least squares by lstsq with λ as further examples, the second on the first's new outputs."""
    x, labels = batch(size=50)
    model, before, pruner = pruned(mlp, (x, labels))
    for name in ("0", "2"):
        old, rows = before.get_submodule(name).weight.detach().double(), seen(model, x, name)[0]
        factor = torch.linalg.cholesky(damped(rows)).T
        kept = next(item.kept for item in pruner.items if item.name == f"{name}.weight")
        for new, w, stays in zip(model.get_submodule(name).weight.detach(), old, kept, strict=True):
            expected = torch.linalg.lstsq(factor[:, stays], (factor @ w)[:, None]).solution[:, 0]
            assert torch.allclose(new[stays].double(), expected, atol=1e-5)


def test_the_order_is_that_of_calls_and_not_of_definition(monkeypatch):
    order, real = [], reconstruction.least_squares
    monkeypatch.setattr(
        reconstruction, "least_squares", lambda w, *more: order.append(tuple(w.shape)) or real(w, *more)
    )
    pruned(HeadFirst, batch())
    assert order[-1] == (3, 5)


def test_two_of_four_stay():
    data = (normal(50, 6, 4, 4, seed=1).float(), torch.zeros(50, dtype=torch.long))

    def build():
        return nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))

    _, before, pruner = pruned(build, data, None, allocation=NM(2, 4))
    for item in pruner.items:
        rows = item.kept.movedim(1, -1).flatten(0, -2)
        for start in range(0, rows.shape[1], 4):
            assert (rows[:, start : start + 4].sum(1) == min(2, rows.shape[1] - start)).all()
        assert not torch.equal(item.parameter[item.kept], before.get_parameter(item.name)[item.kept])


@pytest.mark.parametrize("unit", ["kernel", "block", Channel(dim=1)], ids=["kernel", "block", "dim 1"])
def test_larger_units_whose_rows_keep_weights(unit):
    model, before, pruner = pruned(Convolutional, images(), granularity=unit, exclude=["grouped.*", "body.*"])
    assert not any(bool(item.parameter[~item.kept].any()) for item in pruner.items)
    assert not torch.equal(model.out.weight, before.out.weight * pruner.masks["out.weight"].mask)


def test_nothing_pruned_changes_nothing():
    model, before, _ = pruned(mlp, batch(), 0.0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_rounds_and_iterations_are_exact_and_the_model_is_left_in_its_mode():
    model = drawn(Convolutional).train()
    pruner = Pruner(model, "obs", allocation="local", data=[images()], iterations=3, output_layer=True)
    statistics = model.body[1].running_mean.clone()
    sizes = [item.parameter.numel() for item in pruner.items]
    for _ in range(2):
        sizes = [n - round(0.5 * n) for n in sizes]
        pruner.prune(0.5, reconstruct="obs")
        assert [int(torch.count_nonzero(item.parameter)) for item in pruner.items] == sizes
    assert model.training
    assert model.body[3].training
    assert torch.equal(model.body[1].running_mean, statistics)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_an_input_that_is_always_zero_is_no_trouble():
    x, labels = batch(size=30)
    x[:, 2] = 0
    model, _, _ = pruned(mlp, (x, labels))
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    silent, before, pruner = pruned(mlp, (x * 0, labels), include=["0.weight"])
    assert torch.equal(silent[0].weight, before[0].weight * pruner.masks["0.weight"].mask)  # nothing can be better


REFUSED = [
    (mlp, {"granularity": "channel"}, r"granularity=channel: .*; must be weight, kernel, block, or granularity.dim=1"),
    (lambda: nn.LSTM(6, 3), {}, "obs: weight_ih_l0 of LSTM is not .*; leave it out by prune.exclude="),
    (lambda: nn.Sequential(nn.Unflatten(1, (6, 1)), nn.ConvTranspose1d(6, 4, 1)), {}, "of ConvTranspose1d is not"),
    (mlp, {"include": ["0.*"]}, r"obs: 0.bias of Linear"),
    (Tied, {}, "emb.weight of Embedding"),
    (Cosine, {}, "head.weight of Linear is not the weight of a .* layer that is called"),
]


@pytest.mark.parametrize(("build", "how", "said"), REFUSED, ids=range(len(REFUSED)))
def test_what_it_cannot_update_is_refused(build, how, said):
    with pytest.raises(ConfigError, match=said) as raised:
        pruned(build, batch(), **how)
    assert "\n" not in str(raised.value)


def test_a_wrong_name_missing_data_and_nan_are_refused():
    with pytest.raises(ConfigError, match=r"^reconstruct=obc: must be null or obs$"):
        pruned(mlp, batch(), reconstruct="obc")
    with pytest.raises(ConfigError, match=r"^the criterion, or reconstruct, needs training data; give"):
        Pruner(mlp()).prune(0.5, reconstruct="obs")
    with pytest.raises(ConfigError, match=r"^obs: the inputs of 0\.weight are NaN or infinite$"):
        pruned(mlp, (batch()[0] / 0, batch()[1]))


def test_what_needs_no_update_is_not_asked_for():
    """A recurrent layer that is not pruned is no obstacle."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.GRU(6, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.out(self.rnn(x)[0])

    model, before, _ = pruned(Both, batch(), exclude=["rnn.*"])
    assert torch.equal(model.rnn.weight_ih_l0, before.rnn.weight_ih_l0)
    assert not torch.equal(model.out.weight, before.out.weight)


def test_evidence_is_all_it_needs():
    assert list(inspect.signature(reconstruction.obs).parameters) == ["evidence", "before"]
    assert inspect.signature(reconstruction.obs).parameters["evidence"].annotation is Evidence
