"""Channels that go: by hand, as constants, through sums, depthwise layers and flattening; and those that stay."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toy_networks import apart, parameters, settle, zero_channels

from prunelab.compaction import compact
from prunelab.models.lenet import LeNet


class Activated(nn.Module):
    """linear, any activation, linear: 2 → 3 → 2, with numbers to work with by hand."""

    def __init__(self, activation):
        super().__init__()
        self.activation = activation
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 2)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]]))
            self.first.bias.copy_(torch.tensor([0.5, 0.0, -0.5]))
            self.second.weight.copy_(torch.tensor([[1.0, 4.0, 2.0], [-1.0, -8.0, 1.0]]))
            self.second.bias.copy_(torch.tensor([0.1, 0.2]))

    def forward(self, x):
        return self.second(self.activation(self.first(x)))


@pytest.mark.parametrize(
    ("activation", "bias", "constant"),
    [(F.relu, 0.0, 0.0), (F.relu, 0.25, 0.25), (F.relu, -0.25, 0.0), (torch.sigmoid, 0.0, 0.5), (torch.cos, 0.0, 1.0)],
)
def test_a_constant_goes_into_the_next_bias(activation, bias, constant):
    model = Activated(activation)
    with torch.no_grad():
        model.first.bias[1] = bias
    small = compact(model, torch.zeros(1, 2)).model
    assert torch.equal(small.first.weight, torch.tensor([[1.0, 2.0], [3.0, -1.0]]))
    assert torch.equal(small.second.weight, torch.tensor([[1.0, 2.0], [-1.0, 1.0]]))
    assert torch.allclose(small.second.bias, torch.tensor([0.1 + 4 * constant, 0.2 - 8 * constant]), atol=1e-7)


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_layer_that_gets_its_bias_by_a_constant_loses_channels_too(layer):
    """As the 1×1 shortcuts of a ResNet: no bias, a constant to read, and channels of their own to lose."""
    kernel = {nn.Conv2d: 1, nn.ConvTranspose2d: 2}[layer]
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), layer(4, 5, kernel, stride=kernel, bias=False), nn.ReLU(), nn.Conv2d(5, 2, 1)
    )
    with torch.no_grad():
        model[0].weight[0], model[0].bias[0] = 0, 1  # the constant 1
        (model[2].weight[3] if layer is nn.Conv2d else model[2].weight[:, 3]).zero_()
    compacted = compact(model.eval(), torch.randn(2, 1, 6, 6))
    if layer is nn.Conv2d:  # a transposed one reads no constants: edges differ
        assert compacted.model[0].out_channels == 3
        assert compacted.model[2].bias.shape == (4,)
    assert compacted.model[2].out_channels == 4
    assert not any("fails" in sentence for sentence in compacted.kept_because)
    assert apart(model, compacted.model, torch.randn(5, 1, 6, 6)) < 1e-5


def test_a_neuron_that_nobody_reads_goes():
    model = Activated(torch.tanh)
    with torch.no_grad():
        model.first.weight[1] = torch.tensor([5.0, -6.0])
        model.second.weight[:, 0] = 0
    compacted = compact(model, torch.zeros(1, 2))
    assert torch.equal(compacted.model.first.weight, torch.tensor([[5.0, -6.0], [3.0, -1.0]]))
    assert compacted.removed == ["first: 1 of 3 neurons"]


def test_a_relu_that_only_seems_dead_stays():
    model = Activated(F.relu)
    with torch.no_grad():
        model.first.weight[1], model.first.bias[1] = torch.tensor([1.0, 0.0]), -1000.0
    small = compact(model, torch.zeros(1, 2)).model
    assert small.first.out_features == 3
    output = small(torch.tensor([[2000.0, 0.0]])).detach()
    assert float(output[0, 0]) == pytest.approx(2000.5 + 4 * 1000 + 2 * 5999.5 + 0.1)


def test_the_model_itself_stays_as_it_is():
    model = LeNet()
    zero_channels(model, "conv1", [0, 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    compact(model, torch.randn(1, 1, 28, 28))
    after = model.state_dict()
    assert model.training
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_flattening_takes_all_positions_of_a_channel():
    model = LeNet()
    zero_channels(model, "conv2", [3])
    small = compact(model, torch.randn(1, 1, 28, 28)).model
    kept = [i for i in range(400) if i // 25 != 3]
    assert torch.equal(small.fc1.weight, model.fc1.weight[:, kept])
    assert torch.equal(small.conv2.weight, model.conv2.weight[[i for i in range(16) if i != 3]])


class Convs(nn.Module):
    def __init__(self, padding=0, norm=True, activation=F.relu, **how):
        super().__init__()
        self.a = nn.Conv2d(2, 6, 3, bias=not norm)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.b = nn.Conv2d(6, 4, 3, padding=padding, **how)
        self.activation = activation
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.b(self.activation(self.norm(self.a(x)))).mean((2, 3)))


EXAMPLE = torch.randn(2, 2, 9, 9, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("how", [{"padding": 0}, {"padding": 1, "padding_mode": "circular"}, {"padding": "valid"}])
def test_the_shift_of_a_norm_goes_into_the_next_bias(how):
    model = settle(Convs(**how), (2, 9, 9))
    zero_channels(model, "a", [1, 4])
    compacted = compact(model, EXAMPLE)
    assert compacted.model.a.out_channels == compacted.model.norm.num_features == compacted.model.b.in_channels == 4
    assert apart(model, compacted.model, EXAMPLE) < 1e-5
    assert compacted.kept_because == []


@pytest.mark.parametrize("activation", [F.relu, torch.sigmoid])
def test_the_shift_of_a_norm_stays_where_it_meets_zero_padding(activation):
    model = settle(Convs(padding=1, activation=activation), (2, 9, 9))
    with torch.no_grad():
        model.norm.bias[1] = 0.7
    zero_channels(model, "a", [1])
    compacted = compact(model, EXAMPLE)
    assert compacted.removed == []
    assert compacted.kept_because == [
        "a: 1 channel without weights stays: the output is constant but not zero, and meets the zero padding of b"
    ]


def test_a_negative_shift_is_nothing_after_a_relu():
    model = settle(Convs(padding=1), (2, 9, 9))
    with torch.no_grad():
        model.norm.running_mean[1], model.norm.bias[1] = 0.0, -0.7
    zero_channels(model, "a", [1])
    compacted = compact(model, EXAMPLE)
    assert compacted.removed == ["a: 1 of 6 channels"]
    assert apart(model, compacted.model, EXAMPLE) < 1e-5


def test_several_constants_at_a_zero_padding_become_one():
    model = settle(Convs(padding=1, activation=torch.sigmoid), (2, 9, 9))
    zero_channels(model, "a", [0, 2, 5])
    compacted = compact(model, EXAMPLE)
    assert compacted.removed == ["a: 2 of 6 channels"]
    assert len(compacted.kept_because) == 1
    assert apart(model, compacted.model, EXAMPLE) < 1e-5


def test_what_no_noise_wakes_up_stays():
    """An input of 10¹⁰ would; there is nothing in the weights that says it is constant."""
    model = settle(Convs(), (2, 9, 9))
    with torch.no_grad():
        model.norm.bias[1] = -1e9
    assert compact(model, EXAMPLE).removed == []


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.branch, self.head = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.head(x + F.relu(self.branch(x)))


def test_a_channel_of_a_sum_goes_only_if_it_is_zero_in_every_branch():
    model = Sum()
    zero_channels(model, "stem", [1, 2])
    zero_channels(model, "branch", [2, 3])
    compacted = compact(model, torch.randn(1, 5))
    assert compacted.removed == ["stem: 1 of 6 neurons", "branch: 1 of 6 neurons"]
    assert set(compacted.kept_because) == {
        "stem: 1 channel without weights stays: the same channels are also written by branch",
        "branch: 1 channel without weights stays: the same channels are also written by stem",
    }
    kept = [0, 1, 3, 4, 5]
    assert torch.equal(compacted.model.stem.weight, model.stem.weight[kept])
    assert apart(model, compacted.model, torch.randn(9, 5)) < 1e-6


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 2, 3)
        self.depthwise = nn.Conv2d(5, 5, 3, groups=5, padding=1)
        self.act = nn.PReLU(5)
        self.point = nn.Conv2d(5, 4, 1)
        self.head = nn.Linear(4 * 7 * 7, 3)

    def forward(self, x):
        x = torch.cat([self.left(x), self.right(x)], 1)
        return self.head(self.point(self.act(self.depthwise(x))).flatten(1))


def test_depthwise_convolutions_and_concatenations_shrink_along():
    model = Depthwise()
    zero_channels(model, "left", [0])
    zero_channels(model, "right", [1])
    compacted = compact(model, torch.randn(1, 1, 9, 9))
    small = compacted.model
    shapes = [small.left.out_channels, small.right.out_channels, small.depthwise.groups, small.act.num_parameters]
    assert shapes == [2, 1, 3, 3]
    assert small.point.in_channels == 3
    assert apart(model, small, torch.randn(4, 1, 9, 9)) < 1e-6


def test_a_depthwise_channel_without_weights_takes_its_input_along():
    model = Depthwise()
    zero_channels(model, "depthwise", [3])
    small = compact(model, torch.randn(1, 1, 9, 9)).model
    assert (small.left.out_channels, small.right.out_channels) == (3, 1)
    assert apart(model, small, torch.randn(4, 1, 9, 9)) < 1e-6


class Mixing(nn.Module):
    def __init__(self, mix):
        super().__init__()
        self.first, self.mix, self.second = nn.Linear(4, 6), mix, nn.Linear(6, 2)

    def forward(self, x):
        return self.second(self.mix(self.first(x)))


@pytest.mark.parametrize(
    "mix", [nn.LayerNorm(6), nn.Softmax(1), nn.GroupNorm(2, 6), lambda x: x.cumsum(1), lambda x: x - x.mean(1, True)]
)
def test_channels_stay_where_others_depend_on_their_number(mix):
    model = Mixing(mix)
    zero_channels(model, "first", [1, 4])
    compacted = compact(model, torch.randn(1, 4))
    assert compacted.model.first.out_features == 6
    assert compacted.kept_because
    assert apart(model, compacted.model, torch.randn(7, 4)) == 0


@pytest.mark.parametrize("mix", [lambda x: x.flip(1), lambda x: x.roll(1, 1), lambda x: x[:, [3, 1, 4, 0, 5, 2]]])
def test_channels_that_change_places_are_cut_right_or_not_at_all(mix):
    model = Mixing(mix)
    zero_channels(model, "first", [1, 4])
    assert apart(model, compact(model, torch.randn(1, 4)).model, torch.randn(7, 4)) < 1e-6


def test_an_output_stays():
    model = Activated(F.relu)
    zero_channels(model, "second", [0])
    compacted = compact(model, torch.zeros(1, 2))
    assert compacted.model.second.out_features == 2
    assert "second: 1 channel without weights stays" in " ".join(compacted.kept_because)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("single", [False, True])
def test_nothing_goes_from_a_network_without_whole_zero_channels(single, seed):
    torch.manual_seed(seed)  # in some of them a neuron is dead for all inputs that are likely, but not for all
    model = LeNet()
    if single:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.view(-1)[::11] = 0  # in no layer a whole row or column
    compacted = compact(model, torch.randn(1, 1, 28, 28))
    assert parameters(compacted.model) == parameters(model)
    assert compacted.removed == []
    assert compacted.kept_because[0].startswith("nothing can be removed")


def test_a_whole_branch_is_not_computed_any_more():
    model = Sum()
    zero_channels(model, "branch", list(range(6)))
    compacted = compact(model, torch.randn(1, 5))
    assert compacted.removed == ["branch: the whole layer, since its output never changes"]
    assert not any(module is model.branch for module in compacted.model.modules())
    assert parameters(compacted.model) == 5 * 6 + 6 + 6 * 3 + 3
    assert apart(model, compacted.model, torch.randn(9, 5)) < 1e-6


def test_a_chain_of_layers_goes_back_from_the_one_that_nobody_reads():
    widths = [(3, 8), (8, 7), (7, 6), (6, 2)]
    model = nn.Sequential(*(part for pair in widths for part in (nn.Linear(*pair), nn.ReLU())))[:-1]
    with torch.no_grad():
        model[6].weight[:, :4] = 0  # so four of [4] go,
        model[4].weight[4:, :5] = 0  # so five of [2] go,
        model[2].weight[5:, :3] = 0  # so three of [0] go
    small = compact(model, torch.randn(1, 3)).model
    assert [small[0].out_features, small[2].out_features, small[4].out_features] == [5, 2, 2]
    assert apart(model, small, torch.randn(9, 3)) < 1e-6


def test_frozen_parameters_stay_frozen_and_nothing_has_a_gradient():
    model = LeNet()
    model.conv1.weight.requires_grad_(False)
    zero_channels(model, "conv2", [0])
    small = compact(model, torch.randn(1, 1, 28, 28)).model
    assert [name for name, p in small.named_parameters() if not p.requires_grad] == ["conv1.weight"]
    assert all(p.grad is None and p.is_leaf and p.dtype == torch.float32 for p in small.parameters())


@pytest.mark.parametrize(("multiple", "left"), [(1, 7), (2, 8), (4, 8), (5, 10), (16, 16), (64, 7)])
def test_channels_are_left_for_a_multiple(multiple, left):
    """64 cannot be reached, so it counts for nothing."""
    model = LeNet()
    zero_channels(model, "conv2", [0, 2, 3, 7, 8, 11, 12, 14, 15])
    compacted = compact(model, torch.randn(1, 1, 28, 28), multiple)
    assert compacted.model.conv2.out_channels == left
    assert compacted.model.fc1.in_features == 25 * left
    stays = [
        sentence
        for sentence in compacted.kept_because
        if sentence.endswith(f"a multiple of {multiple} channels is faster")
    ]
    assert len(stays) == (left > 7)
    assert apart(model, compacted.model, torch.randn(8, 1, 28, 28)) < 1e-6


def test_a_constant_may_be_written_over():
    """By ReLU(inplace=True), as torchvision has it."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.zero_()
        model[2].weight.zero_()
    small = compact(model, torch.randn(1, 2, 5, 5)).model
    assert [type(small[i]).__name__ for i in (0, 2)] == ["Constant", "Constant"]
    assert apart(model, small, torch.randn(3, 2, 5, 5)) < 1e-6


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ELU, nn.Hardtanh])
def test_a_constant_stays_what_it_is_after_it_was_written_over(activation):
    model = nn.Sequential(nn.Linear(2, 3), activation(inplace=True))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([-1.0, 2.0, -3.0]))
    small = compact(model, torch.randn(1, 2)).model
    x = torch.randn(1, 2)
    assert all(apart(model, small, x) == 0 for _ in range(2))
    assert torch.equal(small[0].value, torch.tensor([-1.0, 2.0, -3.0]))


class NormedSum(Sum):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.head(x + self.norm(self.branch(x)))


def test_a_channel_of_a_sum_that_only_seems_dead_stays():
    """One branch is stopped by its norm, and no random input wakes the other one up."""
    model = NormedSum().eval()
    with torch.no_grad():
        model.norm.weight[1] = 0
        model.stem.weight[1], model.stem.bias[1] = torch.tensor([1.0, 0, 0, 0, 0]), -1000.0
    small = compact(model, torch.randn(1, 5)).model
    x = torch.tensor([[3000.0, 0, 0, 0, 0]])
    assert apart(model, small, x) == 0
    with torch.no_grad():
        model.stem.weight[1], model.stem.bias[1] = 0.0, 0.0  # now both are
    assert compact(model, torch.randn(1, 5)).removed == ["stem: 1 of 6 neurons", "branch: 1 of 6 neurons"]


def test_a_constant_that_differs_by_position_stays():
    """A pool with zeros around it makes another number of it at the edges."""
    parts = [nn.Conv2d(2, 6, 3), nn.AvgPool2d(3, 2, 1), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(16, 2)]
    model = nn.Sequential(*parts)
    with torch.no_grad():
        model[0].weight[2] = 0
        model[0].bias[2] = 0.1
    compacted = compact(model, EXAMPLE)
    assert compacted.removed == []
    assert compacted.kept_because == [
        "0: 1 channel without weights stays: the values vary, or differ between positions, where they are read by 2"
    ]


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(x), x


def test_a_model_with_several_outputs_keeps_them_all():
    model = Two()
    compacted = compact(model, torch.randn(1, 2))
    assert compacted.proof.agree
    assert apart(model, compacted.model, torch.randn(3, 2)) == 0


class Length(nn.Module):
    def forward(self, x):
        return F.normalize(x, dim=1)


def test_one_cut_that_changes_the_output_does_not_stop_the_others():
    """A length depends on a neuron that the next layer does not read, which the names of operations do not tell."""
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), Length(), nn.Linear(6, 2))
    with torch.no_grad():
        model[0].weight[2], model[0].bias[2] = 0, 0
        model[4].weight[:, 1] = 0
    compacted = compact(model, torch.randn(1, 4))
    assert compacted.removed == ["0: 1 of 5 neurons"]
    assert compacted.kept_because[0].startswith("2: channels that could go (1) stay: without them the output moves by")
    assert apart(model, compacted.model, torch.randn(9, 4)) < 1e-6


class Returned(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x):
        x = self.a(x)
        return x + self.b(x)


def test_what_is_read_and_returned_stays():
    model = Returned()
    zero_channels(model, "a", [1])
    zero_channels(model, "b", [1])
    compacted = compact(model, torch.randn(1, 4))
    assert compacted.removed == []
    assert compacted.kept_because == [
        f"{name}: 1 channel without weights stays: they are the network's output" for name in "ab"
    ]
    assert apart(model, compacted.model, torch.randn(9, 4)) == 0
