"""Masks on layers whose weights are not read by a call of their own: recurrent networks and attention."""

import copy

import pytest
import torch
from torch import nn

from prunelab.pruning import masks

# torch says each once a process, of paths that are tested here on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections", "ignore:The PyTorch API of nested tensors")
ENCODER = {"d_model": 4, "nhead": 2, "dim_feedforward": 6, "dropout": 0.0, "batch_first": True}


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM, **how):
        super().__init__()
        self.rnn = kind(3, 4, batch_first=True, **how)
        self.fc = nn.Linear(self.rnn(torch.zeros(1, 1, 3))[0].shape[-1], 2)

    def forward(self, x):
        return self.fc(self.rnn(x)[0].mean(1))


class Attending(nn.Module):
    """Attention over its own input, an encoder layer, or a stack of them."""

    def __init__(self, kind, **how):
        super().__init__()
        if kind == "attention":
            self.inner = nn.MultiheadAttention(4, 2, batch_first=True, **how)
        else:
            layer = nn.TransformerEncoderLayer(**ENCODER)
            self.inner = nn.TransformerEncoder(layer, 2) if kind == "encoder" else layer

    def forward(self, x):
        attention = isinstance(self.inner, nn.MultiheadAttention)
        return self.inner(x, x, x, need_weights=False)[0] if attention else self.inner(x)


def masked(model):
    """Every third weight pruned; the weights that the next forward pass must compute anew."""
    masks.attach(masks.select(model))
    masks.heed_attention(model)
    for item in masks.masked(model):
        item.mask.view(-1)[::3] = 0
    return model


def dense_twin(model, make):
    """The same network without masks, the pruned weights plain zeros: the oracle."""
    twin = make()
    effective = {item.name: item.effective for item in masks.masked(model)}
    weights = {name: parameter.detach() for name, parameter in masks.originals(model).items()}
    twin.load_state_dict({**weights, **effective})
    return twin.train(model.training)


MODELS = {
    "lstm": (lambda: Recurrent(), (2, 5, 3)),
    "lstm, two directions, projected": (lambda: Recurrent(num_layers=2, bidirectional=True, proj_size=2), (2, 5, 3)),
    "gru": (lambda: Recurrent(nn.GRU), (2, 5, 3)),
    "rnn": (lambda: Recurrent(nn.RNN, bias=False), (2, 5, 3)),
    "attention": (lambda: Attending("attention"), (2, 5, 4)),
    "attention without biases": (lambda: nn.Sequential(Attending("attention", bias=False), nn.Linear(4, 4)), (2, 5, 4)),
    "encoder layer": (lambda: Attending("layer"), (2, 5, 4)),
    "encoder": (lambda: Attending("encoder"), (2, 5, 4)),
}
each = pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS.keys())


def names(model):
    known = {module: name for name, module in model.named_modules()}
    return [f"{known[module]}.{parameter}" for module, parameter in masks.select(model)]


def test_what_is_pruned_by_default():
    """Weights of two dimensions, no biases; the layer that gives the classes is the last Linear."""
    model = Recurrent(num_layers=2, bidirectional=True, proj_size=2)
    expected = [n for n, p in model.named_parameters() if p.dim() == 2]
    assert names(model) == expected
    assert {"rnn.weight_ih_l0", "rnn.weight_hh_l1_reverse", "rnn.weight_hr_l0", "fc.weight"} <= set(expected)
    assert masks.output_layer(model) == "fc"
    assert names(nn.Sequential(nn.MultiheadAttention(4, 2))) == ["0.in_proj_weight", "0.out_proj.weight"]
    assert names(nn.Sequential(nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True))) == [
        *("0.q_proj_weight", "0.k_proj_weight", "0.v_proj_weight", "0.out_proj.weight")
    ]
    assert not masks.is_prunable(nn.LayerNorm(4), "weight")
    assert not masks.is_prunable(nn.Embedding(4, 4), "weight")


@each
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_computes_with_the_masks(make, shape, training, grad):
    """Also after the weights moved, in training and in eval, on torch's fused paths and off them."""
    torch.manual_seed(0)
    model, x = masked(make()).train(training), torch.rand(shape)
    with torch.set_grad_enabled(grad):
        before = model(x)
        torch.testing.assert_close(before, dense_twin(model, make)(x))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        assert (model(x) - before).abs().max() > 1e-3
        torch.testing.assert_close(model(x), dense_twin(model, make)(x))


@each
def test_trains_as_its_dense_twin_and_leaves_the_pruned_weights(make, shape):
    torch.manual_seed(0)
    model, x = masked(make()), torch.rand(shape)
    twin = dense_twin(model, make)
    start = {item.name: item.original.detach().clone() for item in masks.masked(model)}
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    for _ in range(3):
        optimizer.zero_grad()
        (model(x) ** 3).sum().backward()  # of a normed output, the sum and the sum of squares have no gradient
        twin.zero_grad()
        (twin(x) ** 3).sum().backward()
        gradients = {name: parameter.grad for name, parameter in twin.named_parameters()}
        for item in masks.masked(model):
            torch.testing.assert_close(item.original.grad, gradients[item.name] * item.mask)
            assert item.original.grad.any(), item.name
        optimizer.step()
        twin = dense_twin(model, make)
    for item in masks.masked(model):
        assert torch.equal(item.original[item.mask == 0], start[item.name][item.mask == 0])
        assert not torch.equal(item.original, start[item.name])


@each
def test_snapshot_restore_and_bake(make, shape):
    torch.manual_seed(0)
    model, x = masked(make()).eval(), torch.rand(shape)
    weights, kept = masks.snapshot(model)
    expected = model(x)
    assert set(weights) == set(make().state_dict())
    other = make().eval()
    masks.heed_attention(other)
    masks.restore(other, weights, kept)
    torch.testing.assert_close(other(x), expected)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    masks.restore(other, weights)
    torch.testing.assert_close(other(x), expected)
    baked = masks.bake(other)
    torch.testing.assert_close(baked(x), expected)
    assert set(baked.state_dict()) == set(weights)
    assert not any(module._forward_pre_hooks for module in baked.modules())
    torch.testing.assert_close(copy.deepcopy(baked)(x), expected)


def test_without_heeding_it_the_output_projection_is_stale():
    """What torch does by itself, and why there is `heed_attention`. If this fails, it is no longer needed."""
    model = Attending("attention")
    masks.attach(masks.select(model))
    model.inner.out_proj.weight_mask.zero_()
    assert model.inner.out_proj.weight.any()
    x = torch.rand(2, 5, 4)
    model(x)
    assert model.inner.out_proj.weight.any()
    masks.heed_attention(model)
    model(x)
    assert not model.inner.out_proj.weight.any()


def test_heeding_is_idempotent_and_a_copy_masks_its_own_weights():
    model = Attending("layer")
    for _ in range(3):
        masks.heed_attention(model)
    assert len(model.inner.self_attn._forward_pre_hooks) == 1
    copied = copy.deepcopy(model)
    masks.heed_attention(copied)
    assert len(copied.inner.self_attn._forward_pre_hooks) == 1
    masked(copied)
    copied.inner.self_attn.out_proj.weight_mask.zero_()
    before = model.inner.self_attn.out_proj.weight.clone()
    copied(torch.rand(1, 5, 4))
    assert not copied.inner.self_attn.out_proj.weight.any()
    assert torch.equal(model.inner.self_attn.out_proj.weight, before)


def test_a_masked_model_is_copied_without_its_gradient_history():
    torch.manual_seed(0)
    model, x = masked(Attending("layer")).eval(), torch.rand(2, 5, 4)
    with torch.no_grad():  # as after an evaluation; tensors with a history cannot be copied
        expected = model(x)
        copied = copy.deepcopy(model)
        copied.inner.self_attn.out_proj.weight_mask.zero_()
        assert (copied(x) - expected).abs().max() > 1e-3
        torch.testing.assert_close(model(x), expected)


def test_padded_batches_on_the_nested_path():
    """nn.TransformerEncoder packs padded batches in eval; the masks hold there too."""
    torch.manual_seed(0)
    model = masked(Attending("encoder")).eval()
    twin, x = dense_twin(model, lambda: Attending("encoder")), torch.rand(2, 5, 4)
    padding = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]).bool()
    found, expected = model.inner(x, src_key_padding_mask=padding), twin.inner(x, src_key_padding_mask=padding)
    torch.testing.assert_close(found[~padding], expected[~padding])


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_torchvisions_transformers(name):
    """Every masked weight learns and every output is the dense twin's, in a network of one block a stage."""
    from torchvision.models import swin_transformer, vision_transformer

    torch.manual_seed(0)
    if name == "vit_b_16":
        model = vision_transformer.VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=3)
        nn.init.normal_(model.heads.head.weight)  # torchvision's begins with zeros
    else:
        model = swin_transformer.SwinTransformer([4, 4], 8, [2], [2], [2, 2], stochastic_depth_prob=0, num_classes=3)
    twin, x = copy.deepcopy(model).eval(), torch.rand(2, 3, 16, 16)
    masked(model)
    for _ in range(2):
        model.zero_grad()
        model.train()(x).square().sum().backward()
        assert not [item.name for item in masks.masked(model) if not item.original.grad.any()]
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)
    masks.restore(twin, *masks.snapshot(model))
    masks.bake(twin)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), twin(x))
    torch.testing.assert_close(model(x), twin(x))
