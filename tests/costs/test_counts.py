"""Parameters, nonzeros and multiply-adds, counted by hand."""

import math
from dataclasses import asdict

import pytest
import torch
from torch import nn

from prunelab.costs import counts
from prunelab.models.lenet import LeNet, LeNet300100
from prunelab.pruning.masks import Masks

WEIGHTS = ("weight", "weight_ih_l0", "weight_hh_l0", "in_proj_weight")

IMAGE = torch.zeros(1, 1, 28, 28)
LENET_MACS = {
    "conv1": 6 * 9 * 26 * 26,
    "conv2": 16 * 6 * 9 * 11 * 11,
    "fc1": 400 * 120,
    "fc2": 120 * 84,
    "fc3": 84 * 10,
}


class Normed(nn.Module):
    """4 conv weights, 4 + 4 batch norm parameters, 8 linear weights, 2 biases: 22 parameters, all 1."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)
        for parameter in self.parameters():
            nn.init.ones_(parameter)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


def ones(model):
    """The model with every parameter 1."""
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    return model


def masks_of(model):
    """Masks on all weights but those of norms."""
    masks = Masks(model)
    modules = [module for module in model.modules() if not isinstance(module, nn.BatchNorm2d)]
    masks.add(
        [(module, key) for module in modules for key in WEIGHTS if isinstance(getattr(module, key, None), nn.Parameter)]
    )
    return masks


def zero(parameter, *where):
    with torch.no_grad():
        parameter[where] = 0


def count(model, example, masks=None):
    return counts.count(model, counts.layers(model, example), masks_of(model) if masks is None else masks)


def test_layers_of_lenet_in_the_order_in_which_they_run():
    found = counts.layers(LeNet(), IMAGE)
    assert {layer.name: layer.weight.numel() * layer.positions for layer in found} == LENET_MACS
    assert [layer.name for layer in found] == list(LENET_MACS)
    assert [layer.positions for layer in found] == [26 * 26, 11 * 11, 1, 1, 1]


def test_counts_of_a_dense_lenet():
    row = count(ones(LeNet()), IMAGE)
    assert asdict(row) == {
        "sparsity": 0,
        "sparsity_total": 0,
        "nonzero": 60_074,
        "parameters": 60_074,
        "compression_ratio": 1,
        "macs": 199_968,
        "macs_nonzero": 199_968,
        "theoretical_speedup": 1,
    }
    assert row.macs == sum(LENET_MACS.values())


def test_counts_of_lenet_300_100():
    row = count(ones(LeNet300100()), IMAGE)
    assert row.macs == 784 * 300 + 300 * 100 + 100 * 10 == 266_200
    assert row.parameters == 266_200 + 410


def test_counts_after_a_mask_made_by_hand():
    model = ones(LeNet())
    zero(model.conv1.weight, slice(3))  # 27 of 54 weights, each used 676 times
    zero(model.fc1.weight, slice(None), slice(100, None))  # 36,000 of 48,000 weights, each used once
    row = count(model, IMAGE)
    assert row.nonzero == 60_074 - 36_027
    assert row.parameters == 60_074
    assert row.sparsity == 36_027 / 59_838
    assert row.sparsity_total == pytest.approx(36_027 / 60_074)
    assert row.compression_ratio == 60_074 / 24_047
    assert row.macs == 199_968
    assert row.macs_nonzero == 199_968 - 27 * 676 - 36_000 == 145_716
    assert row.theoretical_speedup == 199_968 / 145_716


def test_the_layers_that_run_are_counted_as_they_are_now():
    model = ones(nn.Sequential(nn.Linear(4, 1)))
    running, masks = counts.layers(model, torch.ones(1, 4)), masks_of(model)
    zero(model[0].weight, 0, slice(2))
    row = counts.count(model, running, masks)
    assert (row.nonzero, row.macs_nonzero, row.sparsity) == (3, 2, 0.5)


def test_without_masks_there_is_no_sparsity():
    model = ones(Normed())
    zero(model.conv.weight, slice(1, None))
    masked = asdict(count(model, torch.ones(1, 1, 2, 2)))
    plain = asdict(count(model, torch.ones(1, 1, 2, 2), ()))
    assert (masked.pop("sparsity"), plain.pop("sparsity")) == (3 / 12, 0)
    assert plain == masked


def test_a_shared_parameter_counts_once():
    model = ones(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    model[1].weight = model[0].weight
    zero(model[0].weight, 0)
    row = count(model, torch.ones(1, 3))
    assert (row.parameters, row.nonzero, row.sparsity) == (9 + 6, 6 + 6, 3 / 9)
    assert (row.macs, row.macs_nonzero) == (18, 12)


def test_sparsity_counts_prunable_tensors_and_sparsity_total_the_whole_model():
    model = ones(Normed())
    zero(model.conv.weight, slice(2))
    zero(model.fc.weight, 0)
    row = count(model, torch.ones(1, 1, 3, 3))
    assert row.parameters == 4 + 8 + 8 + 2
    assert row.nonzero == 22 - 6
    assert row.sparsity == 6 / 12
    assert row.sparsity_total == pytest.approx(6 / 22)
    assert row.compression_ratio == 22 / 16
    assert (row.macs, row.macs_nonzero) == (4 * 9 + 8, 2 * 9 + 4)


def test_a_masked_bias_counts_as_prunable_but_costs_no_macs():
    model = ones(nn.Sequential(nn.Linear(2, 2)))
    masks = masks_of(model)
    masks.add([(model[0], "bias")])
    zero(model[0].bias, 0)
    row = count(model, torch.ones(1, 2), masks)
    assert row.sparsity == 1 / 6
    assert row.sparsity_total == pytest.approx(1 / 6)
    assert row.macs == row.macs_nonzero == 4


def test_nothing_left_is_infinitely_small_and_fast():
    model = ones(nn.Sequential(nn.Linear(2, 2, bias=False)))
    zero(model[0].weight, slice(None))
    row = count(model, torch.ones(1, 2))
    assert row.compression_ratio == row.theoretical_speedup == math.inf
    assert row.sparsity == row.sparsity_total == 1


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(self.fc(x))


def test_a_layer_that_runs_twice_costs_twice():
    assert count(ones(Twice()), torch.ones(1, 2)).macs == 8


def test_a_linear_layer_over_a_sequence_runs_at_each_position():
    assert count(ones(nn.Sequential(nn.Linear(2, 3))), torch.ones(1, 5, 2)).macs == 5 * 6


def test_a_grouped_convolution():
    model = ones(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, stride=2, groups=4)))
    assert count(model, torch.ones(1, 4, 6, 6)).macs == 4 * 9 * 3 * 3


def test_a_transposed_convolution_uses_each_weight_once_per_input_position():
    model = ones(nn.Sequential(nn.ConvTranspose2d(1, 1, 2, stride=2)))
    assert count(model, torch.ones(1, 1, 3, 3)).macs == 4 * 3 * 3  # a 6 × 6 output, one multiply-add each


def macs(model, example):
    """Multiply-adds by (layer, parameter), of those that run."""
    return {(x.name, x.parameter): x.weight.numel() * x.positions for x in counts.layers(model, example)}


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_a_recurrent_layer_uses_its_weights_at_every_step(kind, gates):
    """7 steps of width 3 into a state of width 5: batch_first or not."""
    expected = {("", "weight_ih_l0"): gates * 5 * 3 * 7, ("", "weight_hh_l0"): gates * 5 * 5 * 7}
    assert macs(kind(3, 5, batch_first=True), torch.zeros(1, 7, 3)) == expected
    assert macs(kind(3, 5), torch.zeros(7, 1, 3)) == expected
    assert macs(kind(3, 5), torch.zeros(7, 3)) == expected  # without a batch


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # on some processors
def test_a_deep_lstm_in_two_directions_with_projections():
    found = macs(nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2), torch.zeros(7, 1, 3))
    assert found == {
        ("", f"weight_{part}_l{layer}{way}"): 7 * size
        for layer, into in ((0, 3), (1, 2 * 2))
        for way in ("", "_reverse")
        for part, size in (("ih", 20 * into), ("hh", 20 * 2), ("hr", 2 * 5))
    }


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 5, batch_first=True)

    def forward(self, x):
        lengths = torch.tensor([4, 2])
        return self.gru(nn.utils.rnn.pack_padded_sequence(x.expand(2, -1, -1), lengths, batch_first=True))[1]


def test_packed_sequences_count_their_own_steps():
    assert macs(Packed(), torch.zeros(1, 4, 3)) == {
        ("gru", "weight_ih_l0"): 15 * 3 * (4 + 2),
        ("gru", "weight_hh_l0"): 15 * 5 * (4 + 2),
    }


class Attending(nn.Module):
    """Queries from 6 tokens, keys and values from `memory`."""

    def __init__(self, memory=None, **how):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **how)
        self.memory = memory

    def forward(self, x):
        if self.memory is None:
            return self.attention(x, x, x)[0]
        return self.attention(value=self.memory, key=self.memory, query=x)[0]


def test_self_attention_projects_every_token():
    assert macs(Attending(), torch.zeros(1, 6, 8)) == {
        ("attention", "in_proj_weight"): 3 * 8 * 8 * 6,
        ("attention.out_proj", "weight"): 8 * 8 * 6,
    }


def test_attention_to_another_sequence_projects_queries_and_keys_differently_often():
    model = ones(Attending(torch.zeros(1, 5, 8)))
    assert [layer.positions for layer in counts.layers(model, torch.zeros(1, 6, 8))] == [6, 5, 6]
    zero(model.attention.in_proj_weight, slice(8))  # the queries' 64 weights
    row = count(model, torch.zeros(1, 6, 8))
    assert row.macs == 64 * 6 + 2 * 64 * 5 + 64 * 6
    assert row.macs_nonzero == 2 * 64 * 5 + 64 * 6
    other = macs(Attending(torch.zeros(1, 5, 3), kdim=3, vdim=3), torch.zeros(1, 6, 8))
    assert other == {
        ("attention", "q_proj_weight"): 64 * 6,
        ("attention", "k_proj_weight"): 24 * 5,
        ("attention", "v_proj_weight"): 24 * 5,
        ("attention.out_proj", "weight"): 64 * 6,
    }


def test_an_encoder_layer_counts_the_same_whether_torch_fuses_it_or_not():
    layer = nn.TransformerEncoderLayer(8, 2, 10, batch_first=True)
    expected = {
        ("self_attn", "in_proj_weight"): 192 * 6,
        ("self_attn.out_proj", "weight"): 64 * 6,
        ("linear1", "weight"): 80 * 6,
        ("linear2", "weight"): 80 * 6,
    }
    assert macs(layer, torch.zeros(1, 6, 8)) == expected  # unmasked: torch would fuse it
    assert macs(ones(layer), torch.zeros(1, 6, 8)) == expected


def test_a_masked_lstm_costs_what_is_left():
    model = ones(nn.LSTM(3, 5, batch_first=True))
    zero(model.weight_ih_l0, slice(10))  # 30 of 60
    row = count(model, torch.zeros(1, 7, 3))
    assert (row.macs, row.macs_nonzero) == ((60 + 100) * 7, (30 + 100) * 7)
    assert row.sparsity == 30 / 160
    assert row.parameters == 60 + 100 + 40


def test_shifted_windows_are_padded_to_whole_windows():
    """torchvision's Swin: 2 × 3 tokens in windows of 2 × 2 are 2 × 4."""
    from torchvision.models.swin_transformer import ShiftedWindowAttention

    found = macs(ShiftedWindowAttention(4, [2, 2], [1, 1], 2), torch.zeros(1, 2, 3, 4))
    assert found == {("qkv", "weight"): 48 * 8, ("proj", "weight"): 16 * 8}


def test_a_convolution_without_a_batch():
    assert macs(nn.Conv2d(3, 2, 1), torch.zeros(3, 4, 5)) == {("", "weight"): 6 * 20}


class Unused(nn.Module):
    """Its second layer runs in training only, as auxiliary classifiers do."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 3)
        self.auxiliary = nn.LSTM(2, 3)

    def forward(self, x):
        return (self.fc(x), self.auxiliary(x)) if self.training else self.fc(x)


def test_only_what_runs_is_counted():
    assert macs(Unused(), torch.zeros(1, 2)) == {("fc", "weight"): 6}


def test_layers_leaves_the_model_as_it_was():
    model = Normed().train()
    model.norm.eval()  # a frozen norm stays frozen
    before = {name: value.clone() for name, value in model.state_dict().items()}
    counts.layers(model, torch.full((1, 1, 2, 2), 7.0))
    assert (model.training, model.conv.training, model.norm.training) == (True, True, False)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layers_removes_its_hooks_when_the_model_fails():
    model = LeNet().train()
    with pytest.raises(RuntimeError):
        counts.layers(model, torch.zeros(1, 3, 28, 28))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_per_tensor():
    model = ones(LeNet())
    zero(model.conv1.weight, 0)
    zero(model.fc3.weight, slice(None), slice(21, None))
    rows = list(counts.per_tensor(masks_of(model)))
    assert [row.tensor for row in rows] == [f"{name}.weight" for name in LENET_MACS]
    assert [row.shape for row in rows] == ["6x1x3x3", "16x6x3x3", "120x400", "84x120", "10x84"]
    assert [row.size for row in rows] == [54, 864, 48_000, 10_080, 840]
    assert [row.nonzero for row in rows] == [45, 864, 48_000, 10_080, 210]
    assert [row.sparsity for row in rows] == pytest.approx([1 / 6, 0, 0, 0, 0.75])
