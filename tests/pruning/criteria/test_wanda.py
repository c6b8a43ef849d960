import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from toys import Attention, Recurrent, evidence, linear, local_seed

from prunelab.errors import ConfigError
from prunelab.pruning.criteria.wanda import wanda


def double(build):
    with local_seed(0):
        return build().double().eval()


def normal(*shape, seed=1):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def norm(x):
    """‖X_j‖₂ of each last-dimension feature of a NumPy or torch array, over all else."""
    x = np.asarray(x.detach() if isinstance(x, torch.Tensor) else x)
    return np.sqrt((x.reshape(-1, x.shape[-1]) ** 2).sum(0))


def magnitude(weight):
    return np.abs(weight.detach().numpy())


def test_four_weights_by_hand():
    # The features' norms over two examples are ‖(3, 4)‖ = 5 and ‖(0, 2)‖ = 2.
    (score,) = wanda(evidence(linear([[1, -2], [3, 4]]), torch.tensor([[3.0, 0], [4, 2]], dtype=torch.float64)))
    assert score.tolist() == [[5, 4], [15, 8]]


def test_linear_over_examples_positions_and_batches():
    w, x = normal(3, 4), normal(10, 5, 4)
    model = nn.Sequential(linear(w.numpy()), nn.Flatten())
    (score,) = wanda(evidence(model, x), examples=7)
    assert np.allclose(score.numpy(), np.abs(w.numpy()) * norm(x[:7]), rtol=1e-12)


def test_a_layer_sees_what_the_layers_before_it_give():
    w, v, x = normal(3, 4), normal(2, 3, seed=2), normal(10, 4, seed=3)
    (_, score) = wanda(evidence(nn.Sequential(linear(w.numpy()), nn.ReLU(), linear(v.numpy())), x))
    assert np.allclose(score.numpy(), np.abs(v.numpy()) * norm(np.maximum(x.numpy() @ w.numpy().T, 0)), rtol=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_sees_the_channels_of_its_group(groups):
    conv = double(lambda: nn.Conv2d(4, 8, 3, groups=groups))
    x = normal(6, 4, 5, 7)
    norms = norm(x.permute(0, 2, 3, 1))
    expected = magnitude(conv.weight)
    for out in range(8):
        group = out // (8 // groups)
        for i in range(4 // groups):
            expected[out, i] *= norms[group * (4 // groups) + i]
    (score,) = wanda(evidence(nn.Sequential(conv, nn.Flatten()), x))
    assert np.allclose(score.numpy(), expected, rtol=1e-12)


def test_a_transposed_convolution_has_its_inputs_first():
    conv = double(lambda: nn.ConvTranspose1d(4, 6, 3, groups=2))
    x = normal(6, 4, 5)
    (score,) = wanda(evidence(nn.Sequential(conv, nn.Flatten()), x))
    assert np.allclose(score.numpy(), magnitude(conv.weight) * norm(x.mT)[:, None, None], rtol=1e-12)


def rnn_states(cell, x, state):
    """The states before each of the steps and those after, [n, steps, hidden]; `cell(x_t, state)` gives the next."""
    states = [state]
    for t in range(x.shape[1]):
        states.append(cell(x[:, t], states[-1]))
    states = [s[0] if isinstance(s, tuple) else s for s in states]
    return torch.stack(states[:-1], 1), torch.stack(states[1:], 1)


def cell_of(rnn, suffix="_l0"):
    """The single-step cell with the weights of one layer and direction."""
    kind = {nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell, nn.RNN: nn.RNNCell}[type(rnn)]
    cell = kind(getattr(rnn, f"weight_ih{suffix}").shape[1], rnn.hidden_size, dtype=torch.float64)
    cell.load_state_dict({key: getattr(rnn, f"{key}{suffix}").detach() for key in cell.state_dict()})
    return cell


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("start", [None, 2.0])
def test_recurrent_weights_see_the_state_before_each_step(kind, batch_first, start):
    class Net(nn.Module):
        """Three layers in both directions, which start from states of `start`, 2 · `start` … or of 0."""

        def __init__(self):
            super().__init__()
            self.rnn = kind(3, 4, num_layers=3, batch_first=batch_first, bidirectional=True)

        def forward(self, x):
            y = self.rnn(x if batch_first else x.transpose(0, 1), hx=self.start(len(x)))[0]
            return y.flatten(1) if batch_first else y.transpose(0, 1).flatten(1)

        def start(self, n):
            if start is None:
                return None
            h = start * torch.arange(1, 7, dtype=torch.float64)[:, None, None].expand(6, n, 4)
            return (h, -h) if kind is nn.LSTM else h

    model, inputs = double(Net), normal(6, 5, 3)
    names = [name for name, parameter in model.rnn.named_parameters() if parameter.dim() > 1]
    scores = dict(zip(names, wanda(evidence(model, inputs)), strict=True))
    for layer in range(3):
        outputs = []
        for reverse, suffix in enumerate([f"_l{layer}", f"_l{layer}_reverse"]):
            first = (start or 0.0) * torch.full((6, 4), 1.0 + 2 * layer + reverse, dtype=torch.float64)
            steps = inputs.flip(1) if reverse else inputs
            before, after = rnn_states(cell_of(model.rnn, suffix), steps, (first, -first) if kind is nn.LSTM else first)
            outputs.append(after.flip(1) if reverse else after)
            for part, seen in {"ih": inputs, "hh": before}.items():
                expected = magnitude(getattr(model.rnn, f"weight_{part}{suffix}")) * norm(seen)
                assert np.allclose(scores[f"weight_{part}{suffix}"].numpy(), expected, rtol=1e-9)
        inputs = torch.cat(outputs, -1)


def test_one_step_from_nothing_sees_nothing():
    _, score, _ = wanda(evidence(double(lambda: Recurrent(batch_first=True)), normal(6, 1, 3)))
    assert torch.equal(score, torch.zeros(16, 4))


def test_packed_sequences():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 4)

        def forward(self, x):
            packed = pack_sequence([x[0], x[1, :2]])
            assert isinstance(packed, PackedSequence)
            return self.rnn(packed)[1][0][0]

    model, x = double(Net), normal(2, 5, 3)
    ih, hh = wanda(evidence(model, x))
    zero = torch.zeros(1, 4, dtype=torch.float64)
    states = [rnn_states(cell_of(model.rnn), part[None], (zero, zero))[0][0] for part in (x[0], x[1, :2])]
    assert np.allclose(ih.numpy(), magnitude(model.rnn.weight_ih_l0) * norm(torch.cat([x[0], x[1, :2]])), rtol=1e-12)
    assert np.allclose(hh.numpy(), magnitude(model.rnn.weight_hh_l0) * norm(torch.cat(states)), rtol=1e-9)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_the_projection_of_an_lstm_is_not_seen_and_named():
    model = Recurrent(batch_first=True)
    model.rnn = nn.LSTM(3, 6, proj_size=4, batch_first=True)
    with pytest.raises(ConfigError, match=r": rnn.weight_hr_l0 of LSTM; .* prune.exclude=\[rnn.weight_hr_l0"):
        wanda(evidence(model, torch.ones(2, 5, 3)))
    seen = [model.rnn.weight_ih_l0, model.rnn.weight_hh_l0]
    assert [s.shape for s in wanda(evidence(model, torch.ones(2, 5, 3), weights=seen))] == [w.shape for w in seen]


def attended(attention, query, key, value):
    """What goes into out_proj, by NumPy: softmax(Q Kᵀ ÷ √d) V of each head, side by side; [n, steps, embed]."""
    weight, bias = attention.in_proj_weight.detach().numpy(), attention.in_proj_bias.detach().numpy()
    parts = zip(np.split(weight, 3), np.split(bias, 3), (query, key, value), strict=True)
    q, k, v = (x.numpy() @ w.T + b for w, b, x in parts)
    heads = []
    for some in np.split(np.arange(attention.embed_dim), attention.num_heads):
        z = np.exp(q[..., some] @ k[..., some].swapaxes(1, 2) / np.sqrt(len(some)))
        heads.append(z / z.sum(-1, keepdims=True) @ v[..., some])
    return np.concatenate(heads, -1)


class Cross(nn.Module):
    """Query, key and value differ in size, so that a mix-up shows."""

    def __init__(self, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)

    def forward(self, x):
        return self.attention(x, key=2 * x, value=3 * x)[0].flatten(1)


def test_attention_sees_query_key_value_and_what_it_attends_to():
    model, x = double(Cross), normal(6, 5, 4)
    nn.init.normal_(model.attention.in_proj_bias)
    nn.init.normal_(model.attention.out_proj.bias)
    projected, out = wanda(evidence(model, x))
    thirds = np.concatenate([np.tile(norm(scale * x), (4, 1)) for scale in (1, 2, 3)])
    assert np.allclose(projected.numpy(), magnitude(model.attention.in_proj_weight) * thirds, rtol=1e-12)
    inside = attended(model.attention, x, 2 * x, 3 * x)
    assert np.allclose(out.numpy(), magnitude(model.attention.out_proj.weight) * norm(inside), rtol=1e-9)


def test_attention_with_projections_of_other_sizes():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x[..., :3], x[..., :2])[0].flatten(1)

    model, x = double(Net), normal(6, 5, 4)
    q, k, v, _ = wanda(evidence(model, x))
    for score, weight, size in [(q, "q", 4), (k, "k", 3), (v, "v", 2)]:
        expected = magnitude(getattr(model.attention, f"{weight}_proj_weight")) * norm(x[..., :size])
        assert np.allclose(score.numpy(), expected, rtol=1e-12)


def test_what_attention_attends_to_leaves_the_layer_as_it_was():
    model = double(Attention)
    before = copy.deepcopy(model.state_dict())
    projection = model.attention.out_proj
    wanda(evidence(model, normal(6, 5, 4)))
    assert model.attention.out_proj is projection
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_fused_encoder_is_taken_apart():
    """torch's fast path for inference drops the padding and calls no module inside an encoder layer."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1)
            self.register_buffer("padding", torch.tensor([False, False, False, True, True]))

        def forward(self, x):
            return self.encoder(x, src_key_padding_mask=self.padding.expand(len(x), 5)).flatten(1)

    model, x = double(Net).requires_grad_(False), normal(6, 5, 4)
    layer = model.encoder.layers[0]
    scores = wanda(evidence(model, x, weights=[layer.linear1.weight, layer.linear2.weight], batch_size=6))
    attention = layer.self_attn(x, x, x, key_padding_mask=model.padding.expand(6, 5), need_weights=True)[0]
    middle = layer.norm1(x + attention)
    assert np.allclose(scores[0].numpy(), magnitude(layer.linear1.weight) * norm(middle), rtol=1e-9)
    hidden = torch.relu(layer.linear1(middle))
    assert np.allclose(scores[1].numpy(), magnitude(layer.linear2.weight) * norm(hidden), rtol=1e-9)


def test_a_layer_that_is_called_twice_and_one_that_shares_its_weight():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = linear([[1, 2], [3, 4]]), linear([[0, 0], [0, 0]])
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.first(x) + self.first(2 * x) + self.second(3 * x)

    model, x = Tied(), normal(6, 2)
    (score,) = wanda(evidence(model, x))
    assert np.allclose(score.numpy(), magnitude(model.first.weight) * norm(x) * np.sqrt(1 + 4 + 9), rtol=1e-12)


def test_what_is_no_weight_matrix_or_never_called_is_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare, self.norm = nn.Linear(2, 2), nn.Linear(2, 2), nn.LayerNorm(2)

        def forward(self, x):
            return self.norm(self.used(x))

    model = Net()
    unseen = [model.used.bias, model.spare.weight, model.norm.weight]
    with pytest.raises(ConfigError) as error:
        wanda(evidence(model, torch.ones(1, 2), weights=[model.used.weight, *unseen]))
    assert str(error.value) == (
        "wanda cannot see what these are multiplied by: used.bias of Linear, spare.weight of Linear, "
        "norm.weight of LayerNorm; leave them out by prune.exclude=[used.bias,spare.weight,norm.weight]"
    )


def test_hooks_are_gone_even_after_an_error():
    model = nn.Linear(3, 2)
    with pytest.raises(RuntimeError):
        wanda(evidence(model, torch.ones(1, 2)))
    assert not model._forward_hooks
    assert torch.backends.mha.get_fastpath_enabled()
