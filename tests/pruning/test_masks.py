import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from prunelab.errors import ConfigError
from prunelab.models.lenet import LeNet
from prunelab.pruning import masks

LENET_WEIGHTS = ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "fc3.weight"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


def four(weights=(1.0, 2.0, 3.0, 4.0), mask=(1, 1, 1, 1), rows=1):
    """One Linear layer with four weights, its mask attached."""
    model = nn.Sequential(nn.Linear(4 // rows, rows))
    masks.attach(masks.select(model))
    with torch.no_grad():
        model[0].weight_orig.view(-1).copy_(torch.tensor(weights))
    model[0].weight_mask.view(-1).copy_(torch.tensor(mask))
    masks.refresh(model)
    return model


def selected(model, *args, **kwargs):
    names = {module: name for name, module in model.named_modules()}
    return [f"{names[module]}.{parameter}" for module, parameter in masks.select(model, *args, **kwargs)]


def one(model):
    (item,) = masks.masked(model)
    return item


def test_select_default_is_every_conv_and_linear_weight():
    assert selected(LeNet()) == LENET_WEIGHTS
    assert selected(Net()) == ["conv.weight", "fc.weight"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["fc*.weight"], [], ["fc1.weight", "fc2.weight", "fc3.weight"]),
        (["fc3.bias"], [], ["fc3.bias"]),
        (["fc1.weight", "conv1.*"], [], ["conv1.weight", "conv1.bias", "fc1.weight"]),  # the model's order
        (["fc?.weight"], ["fc[12].*"], ["fc3.weight"]),
        (None, ["*.bias", "conv*"], ["fc1.weight", "fc2.weight", "fc3.weight"]),
        (["fc1.weight", "fc1.*"], ["*.bias"], ["fc1.weight"]),  # matched twice, there once
    ],
)
def test_select_patterns(include, exclude, expected):
    assert selected(LeNet(), include, exclude) == expected


def test_select_patterns_may_name_other_layers():
    assert selected(Net(), ["norm.weight"]) == ["norm.weight"]


def test_select_is_case_sensitive():
    with pytest.raises(ConfigError):
        masks.select(Net(), ["FC.weight"])


def test_select_leaves_the_output_layer_alone():
    assert selected(LeNet(), None, (), "fc3") == LENET_WEIGHTS[:-1]
    assert selected(LeNet(), ["fc[23].*"], (), "fc3") == ["fc2.weight", "fc2.bias"]


@pytest.mark.parametrize(
    ("include", "exclude", "quoted"),
    [
        (["conv.weight", "fx*"], [], "prune.include=[conv.weight,fx*]: fx* matches nothing"),
        (None, ["fc1.*"], "prune.exclude=[fc1.*]: fc1.* matches nothing"),
        (["fc.weight"], ["fc.*"], "prune.include=[fc.weight], prune.exclude=[fc.*]: leave nothing to prune"),
        (None, ["*"], "prune.include=null, prune.exclude=[*]: leave nothing to prune"),
        ([], [], "prune.include=[], prune.exclude=[]: leave nothing to prune"),
    ],
)
def test_select_errors_list_the_names(include, exclude, quoted):
    with pytest.raises(ConfigError) as error:
        masks.select(Net(), include, exclude)
    assert quoted in str(error.value)
    assert "there are conv.weight, conv.bias, norm.weight, norm.bias, fc.weight, fc.bias" in str(error.value)


def test_select_error_says_that_the_output_layer_was_left_alone():
    with pytest.raises(ConfigError, match=r"prune\.output_layer=false leaves fc alone"):
        masks.select(Net(), ["fc.*"], (), "fc")


def test_output_layer():
    assert masks.output_layer(LeNet()) == "fc3"
    assert masks.output_layer(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))) == "0"
    assert masks.output_layer(nn.BatchNorm1d(2)) is None


def test_attach_changes_nothing_but_adds_masks_of_ones():
    torch.manual_seed(0)
    model, x = Net().eval(), torch.rand(3, 1, 4, 4)
    before = model(x)
    masks.attach(masks.select(model))
    assert torch.equal(model(x), before)
    assert [item.name for item in masks.masked(model)] == ["conv.weight", "fc.weight"]
    assert all(item.mask.all() and item.mask.shape == item.original.shape for item in masks.masked(model))


def test_masked_names_its_tensors():
    model = four(mask=(0, 1, 1, 0))
    item = one(model)
    assert item.name == "0.weight"
    assert item.module is model[0]
    assert item.parameter == "weight"
    assert item.original is model[0].weight_orig
    assert item.mask is model[0].weight_mask
    assert item.effective.tolist() == [[0, 2, 3, 0]]
    assert not item.effective.requires_grad


def test_masked_on_a_bare_layer():
    layer = nn.Linear(2, 2)
    masks.attach(masks.select(layer))
    assert one(layer).name == "weight"


def test_masked_of_a_dense_model_is_empty():
    assert not list(masks.masked(Net()))


def test_effective_is_right_when_the_weight_is_stale():
    model = four(mask=(1, 0, 1, 0))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model[0].weight_orig.grad = torch.ones(1, 4)
    optimizer.step()
    assert model[0].weight.tolist() == [[1, 0, 3, 0]]  # stale
    assert one(model).effective.tolist() == [[0, 0, 2, 0]]
    assert masks.sparsity(masks.masked(model)) == 0.75
    masks.refresh(model)
    assert model[0].weight.tolist() == [[0, 0, 2, 0]]


def test_snapshot_has_the_dense_model_s_keys_and_no_masks_of_ones():
    dense = Net().state_dict()
    model = Net()
    masks.attach(masks.select(model, ["conv.weight", "fc.bias"]))
    weights, kept = masks.snapshot(model)
    assert set(weights) == set(dense)
    assert kept == {}
    model.fc.bias_mask[0] = 0
    weights, kept = masks.snapshot(model)
    assert set(weights) == set(dense)
    assert {name: mask.tolist() for name, mask in kept.items()} == {"fc.bias": [False, True]}
    assert kept["fc.bias"].dtype == torch.bool


def test_snapshot_holds_weights_under_their_masks_unchanged():
    weights, kept = masks.snapshot(four(mask=(0, 0, 1, 1)))
    assert weights["0.weight"].tolist() == [[1, 2, 3, 4]]
    assert kept["0.weight"].tolist() == [[False, False, True, True]]


def test_snapshot_is_a_copy():
    model = four(mask=(0, 1, 1, 1))
    weights, kept = masks.snapshot(model)
    with torch.no_grad():
        model[0].weight_orig.zero_()
        model[0].weight_mask.zero_()
    assert weights["0.weight"].tolist() == [[1, 2, 3, 4]]
    assert kept["0.weight"].tolist() == [[False, True, True, True]]


def test_snapshot_keeps_a_buffer_that_happens_to_end_in_mask():
    model = nn.Sequential(nn.Linear(2, 2))
    model.register_buffer("attention_mask", torch.ones(2))
    masks.attach(masks.select(model))
    assert "attention_mask" in masks.snapshot(model)[0]


def test_restore_round_trip_on_a_new_model():
    torch.manual_seed(0)
    model = Net()
    masks.attach(masks.select(model))
    model(torch.rand(4, 1, 3, 3))  # moves the batch norm's buffers
    model.conv.weight_mask[0] = 0
    prune.custom_from_mask(model.conv, "bias", torch.tensor([0.0, 1.0]))  # attached later than the others
    weights, kept = masks.snapshot(model)
    assert set(kept) == {"conv.weight", "conv.bias"}

    other = Net()
    masks.attach(masks.select(other))
    masks.restore(other, weights, kept)
    again, kept_again = masks.snapshot(other)
    assert set(again) == set(weights)
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert all(torch.equal(kept_again[name], kept[name]) for name in kept)
    assert set(kept_again) == set(kept)
    x = torch.rand(2, 1, 3, 3)
    assert torch.equal(other.eval()(x), model.eval()(x))


def test_restore_attaches_masks_to_a_dense_model():
    weights, kept = masks.snapshot(four(mask=(0, 1, 0, 1)))
    model = nn.Sequential(nn.Linear(4, 1))
    masks.restore(model, weights, kept)
    assert one(model).effective.tolist() == [[0, 2, 0, 4]]
    assert model[0].weight.tolist() == [[0, 2, 0, 4]]


def test_restore_makes_masks_that_the_snapshot_lacks_ones():
    model = Net()
    masks.attach(masks.select(model))
    weights, kept = masks.snapshot(model)
    model.fc.weight_mask.zero_()
    prune.custom_from_mask(model.conv, "bias", torch.tensor([0.0, 1.0]))
    masks.restore(model, weights, kept)
    assert [item.name for item in masks.masked(model) if not item.mask.all()] == []
    assert masks.count(model) == (8, 8)


def test_rewinding_keeps_the_masks_and_refreshes_the_weights():
    model = four(weights=(1.0, 2.0, 3.0, 4.0))
    start, _ = masks.snapshot(model)
    with torch.no_grad():
        model[0].weight_orig.fill_(9)
    model[0].weight_mask.copy_(torch.tensor([[1, 0, 0, 1]]))
    masks.restore(model, start)
    assert one(model).mask.tolist() == [[1, 0, 0, 1]]
    assert one(model).original.tolist() == [[1, 2, 3, 4]]
    assert one(model).effective.tolist() == [[1, 0, 0, 4]]
    assert model[0].weight.tolist() == [[1, 0, 0, 4]]


def test_bake_gives_plain_zeros_under_the_dense_model_s_keys():
    model = Net()
    dense = {name: value.shape for name, value in model.state_dict().items()}
    masks.attach(masks.select(model))
    model.fc.weight_mask[0] = 0
    prune.custom_from_mask(model.fc, "bias", torch.tensor([0.0, 1.0]))
    expected = {item.name: item.effective for item in masks.masked(model)}
    assert masks.bake(model) is model
    assert {name: value.shape for name, value in model.state_dict().items()} == dense
    assert not list(masks.masked(model))
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in expected.items())
    assert {name for name, _ in model.named_parameters()} == {name for name, _ in Net().named_parameters()}


def test_bake_is_right_after_a_step_that_left_the_weight_stale():
    model = four(mask=(1, 0, 1, 1))
    with torch.no_grad():
        model[0].weight_orig.copy_(torch.tensor([[5.0, 6.0, 7.0, 8.0]]))
    assert masks.bake(model)[0].weight.tolist() == [[5, 0, 7, 8]]


@pytest.mark.parametrize(
    ("weights", "mask", "expected"),
    [
        ((1.0, 2.0, 3.0, 4.0), (1, 1, 1, 1), 0),
        ((1.0, 2.0, 3.0, 4.0), (0, 1, 1, 1), 0.25),
        ((1.0, 2.0, 0.0, 4.0), (0, 1, 1, 1), 0.5),  # a weight that is 0 by itself is a zero, too
        ((0.0, 2.0, 3.0, 4.0), (0, 1, 1, 1), 0.25),  # counted once
        ((1.0, 2.0, 3.0, 4.0), (0, 0, 0, 0), 1),
    ],
)
def test_sparsity_of_four_weights(weights, mask, expected):
    assert masks.sparsity(masks.masked(four(weights, mask))) == expected


def test_sparsity_weighs_tensors_by_their_size():
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 6))
    masks.attach(masks.select(model))
    with torch.no_grad():
        model[1].weight_orig.fill_(1)
        model[0].weight_orig.fill_(1)
    model[0].weight_mask.zero_()
    assert masks.sparsity(masks.masked(model)) == 2 / 8
    assert masks.count(model) == (6, 8)


def test_sparsity_without_tensors_is_0():
    assert masks.sparsity([]) == 0


def units(before, after, rows=1):
    model = four(mask=after, rows=rows)
    old = torch.tensor(before).bool().view(rows, -1)
    return list(masks.last_units(model, {"0.weight": old}))


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
    model = four(mask=(0, 0, 1, 0))
    assert list(masks.last_units(model, {})) == [("0.weight", "weight")]


def test_last_units_of_a_bias_that_always_was_one_number():
    model = nn.Sequential(nn.Linear(4, 1))
    masks.attach([(model[0], "bias")])
    assert list(masks.last_units(model, {})) == []
