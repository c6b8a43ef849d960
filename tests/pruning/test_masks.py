"""Masks as objects: adding, counting, storing, and what they do to weights once."""

import gc
import weakref

import pytest
import torch
from networks_to_prune import Repeated, Tied, Twins, drawn, mlp
from torch import nn

from prunelab.pruning.masks import Masks, named
from prunelab.pruning.prunable import select
from prunelab.pruning.reports import last_units


def masked(model, *include):
    masks = Masks(model)
    masks.add(select(model, include or None))
    return masks


def four(weights=(1.0, 2.0, 3.0, 4.0), mask=(1, 1, 1, 1), rows=1):
    """The masks of one Linear layer with four weights."""
    masks = masked(nn.Sequential(nn.Linear(4 // rows, rows)))
    item = masks["0.weight"]
    with torch.no_grad():
        item.parameter.view(-1).copy_(torch.tensor(weights))
    item.set(torch.tensor(mask).view(rows, -1))
    masks.apply()
    return masks


def test_adding_masks_of_ones_changes_nothing():
    model = drawn(mlp)
    before, keys, x = (
        {k: v.clone() for k, v in model.state_dict().items()},
        list(dict(model.named_parameters())),
        torch.rand(3, 6),
    )
    output = model(x)
    masks = masked(model)
    assert torch.equal(model(x), output)
    assert list(dict(model.named_parameters())) == keys
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(type(parameter) is nn.Parameter for parameter in model.parameters())
    assert [item.name for item in masks] == ["0.weight", "2.weight"]
    assert all(item.mask.all() and item.mask.shape == item.parameter.shape for item in masks)
    assert (masks.sparsity(), masks.counts(), masks.state(), masks.lost()) == (0, (45, 45), {}, [])


def test_a_masked_tensor_knows_where_it_is():
    masks = four(mask=(0, 1, 1, 0))
    (item,) = masks
    layer = masks.model[0]
    assert (item.name, item.module, item.key) == ("0.weight", layer, "weight")
    assert item.parameter is layer.weight
    assert layer.weight.tolist() == [[0, 2, 3, 0]]
    assert item.kept.tolist() == [[False, True, True, False]]
    assert item.kept.dtype == torch.bool


def test_masks_are_looked_up_by_name():
    masks = masked(drawn(mlp))
    assert masks["2.weight"].module is masks.model[2]
    assert "2.weight" in masks
    assert "2.bias" not in masks
    assert len(masks) == 2
    with pytest.raises(KeyError, match=r"2\.bias"):
        masks["2.bias"]
    assert [item.name for item in masks.of([(masks.model[2], "weight"), (masks.model[0], "bias")])] == ["2.weight"]


def test_a_bare_layer_has_masks_too():
    assert [item.name for item in masked(nn.Linear(2, 2))] == ["weight"]


def test_masks_stay_in_the_model_s_order_and_one_that_is_there_stays():
    model = drawn(mlp)
    masks = Masks(model)
    masks.add([(model[2], "weight")])
    masks["2.weight"].set(torch.zeros(3, 5))
    masks.add([(model[2], "bias"), (model[0], "weight"), (model[2], "weight")])
    assert [item.name for item in masks] == ["0.weight", "2.weight", "2.bias"]
    assert not masks["2.weight"].mask.any()


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (Tied, ["emb.weight", "mix.weight"]),
        (Twins, ["a.weight", "b.weight", "o.weight"]),
        (Repeated, ["inp.weight", "out.weight", "blocks.0.0.weight"]),
    ],
)
def test_a_shared_parameter_has_one_mask_and_counts_once(build, expected):
    model = drawn(build)
    masks = masked(model)
    assert [item.name for item in masks] == expected
    size = sum(p.numel() for name, p in model.named_parameters() if name in expected)
    assert masks.counts() == (size, size)
    assert len(masks.state()) == 0


def test_named_gives_a_shared_parameter_under_each_of_its_names():
    names = [name for name, *_ in named(Repeated()) if name.endswith("0.weight")]
    assert names == ["blocks.0.0.weight", "blocks.1.0.weight", "blocks.2.0.weight"]


def test_state_and_load_go_round():
    model = drawn(mlp)
    masks = masked(model, "0.*", "2.weight")
    masks["0.bias"].set(torch.tensor([1, 0, 1, 1, 0]))
    masks["2.weight"].set(torch.arange(15).view(3, 5) % 2)
    masks.apply()
    state = masks.state()
    assert {name: (mask.dtype, mask.device.type) for name, mask in state.items()} == {
        "0.bias": (torch.bool, "cpu"),
        "2.weight": (torch.bool, "cpu"),
    }
    other = masked(drawn(mlp, seed=1), "2.weight")  # has no mask for the bias yet
    weights = {name: p.detach().clone() for name, p in other.model.named_parameters()}
    other.load(state)
    assert {name: mask.tolist() for name, mask in other.state().items()} == {k: m.tolist() for k, m in state.items()}
    assert all(torch.equal(p, weights[name]) for name, p in other.model.named_parameters())  # weights stay …
    other.apply()
    assert other.model[0].bias.detach()[1] == 0  # … until now
    other.load({})
    assert other.state() == {}
    assert other.model[0].bias.detach()[1] == 0  # what is zero is not revived


def test_a_mask_of_no_parameter_is_refused():
    with pytest.raises(KeyError, match=r"module\.0\.weight"):
        masked(drawn(mlp)).load({"module.0.weight": torch.zeros(5, 6)})


def test_state_is_a_copy():
    masks = four(mask=(0, 1, 1, 1))
    state = masks.state()
    masks["0.weight"].set(torch.zeros(1, 4))
    assert state["0.weight"].tolist() == [[False, True, True, True]]


@pytest.mark.parametrize(
    ("weights", "mask", "sparsity", "kept"),
    [
        ((1.0, 2.0, 3.0, 4.0), (1, 1, 1, 1), 0, 4),
        ((1.0, 2.0, 3.0, 4.0), (0, 1, 1, 1), 0.25, 3),
        ((1.0, 2.0, 0.0, 4.0), (0, 1, 1, 1), 0.5, 3),  # a weight that is 0 by itself is a zero, too
        ((0.0, 2.0, 3.0, 4.0), (0, 1, 1, 1), 0.25, 3),  # counted once
        ((1.0, 2.0, 3.0, 4.0), (0, 0, 0, 0), 1, 0),
    ],
)
def test_sparsity_of_four_weights(weights, mask, sparsity, kept):
    masks = four(weights, mask)
    assert (masks.sparsity(), masks.counts()) == (sparsity, (kept, 4))


def test_sparsity_weighs_tensors_by_their_size():
    masks = masked(nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 6)))
    with torch.no_grad():
        for item in masks:
            item.parameter.fill_(1)
    masks["0.weight"].set(torch.zeros(1, 2))
    masks.apply()
    assert masks.sparsity() == 2 / 8
    assert masks.counts() == (6, 8)


def test_sparsity_without_tensors_is_0():
    assert Masks(nn.Linear(2, 2)).sparsity() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_counts_are_exact_in_every_type(dtype):
    model = nn.Linear(1031, 3, bias=False, dtype=dtype)
    masks = masked(model)
    kept = torch.arange(3093).view(3, 1031) % 3 != 1
    masks["weight"].set(kept)
    masks.apply()
    assert masks["weight"].mask.dtype == dtype
    assert masks.counts() == (2062, 3093)
    assert int((model.weight != 0).sum()) == int((kept & (model.weight != 0)).sum())


def test_masks_follow_the_model_to_another_type():
    masks = four(mask=(0, 1, 1, 0))
    masks.model.to(torch.bfloat16)
    assert masks.lost() == []
    masks.apply()
    assert masks["0.weight"].mask.dtype == torch.bfloat16
    with torch.no_grad():
        masks.model[0].weight.fill_(1)
    assert masks.lost() == ["0.weight"]
    masks.apply()
    assert masks.model[0].weight.tolist() == [[0, 1, 1, 0]]


@pytest.mark.gpu
def test_masks_follow_the_model_to_another_device():
    masks = masked(drawn(mlp))
    masks["2.weight"].set(torch.arange(15).view(3, 5) % 2)
    masks.model.cuda()
    assert masks.lost() == ["2.weight"]
    masks.apply()
    assert masks.lost() == []
    assert {item.mask.device.type for item in masks} == {"cuda"}
    assert masks.counts() == (37, 45)
    masks.model.cpu()
    assert masks.lost() == []


def test_masks_follow_a_parameter_that_is_replaced():
    """As `model.to("meta")` does, and torch.__future__.set_overwrite_module_params_on_conversion."""
    masks = masked(drawn(Twins))
    masks["b.weight"].set(torch.zeros(5, 5))
    masks.model.b.weight = nn.Parameter(torch.ones(5, 5))
    masks.apply()
    assert masks["b.weight"].parameter is masks.model.b.weight
    assert masks.model.c.weight is masks.model.b.weight
    assert not masks.model.b.weight.any()
    assert [item.name for item in masks] == ["a.weight", "b.weight", "o.weight"]


def test_lost_names_what_something_has_overwritten():
    masks = four(mask=(0, 1, 1, 1))
    assert masks.lost() == []
    with torch.no_grad():
        masks.model[0].weight.fill_(1)
    assert masks.lost() == ["0.weight"]
    with torch.no_grad():
        masks.model[0].weight.fill_(float("nan"))
    assert masks.lost() == ["0.weight"]


def test_detach_removes_masks_and_hooks_and_leaves_zeros():
    masks = four(mask=(0, 1, 1, 1))
    model = masks.model
    masks.detach()
    assert len(masks) == 0
    assert not model[0]._load_state_dict_post_hooks
    assert model[0].weight.tolist() == [[0, 2, 3, 4]]
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    model(torch.ones(1, 4)).sum().backward()
    assert model[0].weight.grad.tolist() == [[1, 1, 1, 1]]
    optimizer.step()
    assert model[0].weight.tolist() == [[-1, 1, 2, 3]]


def test_masks_are_enforced_though_nobody_holds_them_and_go_with_their_model():
    model = four(mask=(0, 1, 1, 1)).model
    gc.collect()
    model(torch.ones(1, 4)).sum().backward()
    assert model[0].weight.grad.tolist() == [[0, 1, 1, 1]]
    torch.optim.SGD(model.parameters(), 1.0).step()
    assert model[0].weight.tolist() == [[0, 1, 2, 3]]
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def units(before, after, rows=1):
    old = torch.tensor(before).bool().view(rows, -1)
    return list(last_units(four(mask=after, rows=rows), {"0.weight": old}))


def test_last_units_names_a_tensor_that_came_down_to_one_weight():
    assert units((1, 1, 0, 0), (1, 0, 0, 0)) == [("0.weight", "weight")]
    assert units((1, 0, 0, 0), (1, 0, 0, 0)) == []  # said before
    assert units((1, 1, 1, 1), (1, 1, 0, 0)) == []


def test_last_units_names_a_tensor_that_came_down_to_one_channel():
    assert units((1, 1, 1, 1), (1, 1, 0, 0), rows=2) == [("0.weight", "channel")]  # an output channel
    assert units((1, 1, 1, 1), (0, 1, 0, 1), rows=2) == [("0.weight", "channel")]  # an input channel
    assert units((1, 1, 0, 0), (1, 1, 0, 0), rows=2) == []
    assert units((1, 1, 1, 1), (1, 0, 0, 1), rows=2) == []  # scattered weights are no channel
    assert units((1, 1, 1, 0), (0, 1, 1, 1), rows=4) == []  # a layer with one input is not down to its last


def test_last_units_without_a_mask_before():
    assert list(last_units(four(mask=(0, 0, 1, 0)), {})) == [("0.weight", "weight")]


def test_last_units_of_a_bias_that_always_was_one_number():
    assert list(last_units(masked(nn.Sequential(nn.Linear(4, 1)), "0.bias"), {})) == []


def test_sparsity_is_zeros_over_all_to_the_last_bit():
    masks = masked(nn.Linear(3, 1))
    masks["weight"].set(torch.tensor([[1, 0, 0]]))
    masks.apply()
    assert masks.sparsity() == 2 / 3 != 1 - 1 / 3
