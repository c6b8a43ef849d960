"""Masks on layers whose weights are not read by a call of their own: recurrent networks and attention."""

import copy

import pytest
import torch
from torch import nn

from prunelab.pruning.masks import Masks
from prunelab.pruning.prunable import select

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


def masked(model):
    """Every third weight pruned."""
    masks = Masks(model)
    masks.add(select(model))
    for item in masks:
        kept = torch.ones_like(item.mask)
        kept.view(-1)[::3] = 0
        item.set(kept)
    masks.apply()
    return masks


def dense_twin(masks, make):
    """A network that was never masked, with the same weights: the oracle."""
    twin = make()
    twin.load_state_dict(masks.model.state_dict())
    return twin.train(masks.model.training)


@each
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_computes_with_the_masks(make, shape, training, grad):
    """Also after the weights moved, in training and in eval, on torch's fused paths and off them."""
    torch.manual_seed(0)
    model, x = make().train(training), torch.rand(shape)
    dense = model(x).detach()
    masks = masked(model)
    with torch.set_grad_enabled(grad):
        before = model(x)
        assert (before - dense).abs().max() > 1e-3
        torch.testing.assert_close(before, dense_twin(masks, make)(x))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        assert (model(x) - before).abs().max() > 1e-3
        torch.testing.assert_close(model(x), dense_twin(masks, make)(x))


@each
def test_trains_as_its_dense_twin_and_leaves_the_pruned_weights(make, shape):
    torch.manual_seed(0)
    model, x = make(), torch.rand(shape)
    masks = masked(model)
    twin = dense_twin(masks, make)
    start = {item.name: item.parameter.detach().clone() for item in masks}
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    for _ in range(3):
        optimizer.zero_grad()
        (model(x) ** 3).sum().backward()  # of a normed output, the sum and the sum of squares have no gradient
        twin.zero_grad()
        (twin(x) ** 3).sum().backward()
        gradients = {name: parameter.grad for name, parameter in twin.named_parameters()}
        for item in masks:
            torch.testing.assert_close(item.parameter.grad, gradients[item.name] * item.mask)
            assert item.parameter.grad.any(), item.name
        optimizer.step()
        twin = dense_twin(masks, make)
    assert masks.lost() == []
    assert all(not torch.equal(item.parameter, start[item.name]) for item in masks)


@each
def test_another_network_takes_over_weights_and_masks(make, shape):
    torch.manual_seed(0)
    model, x = make().eval(), torch.rand(shape)
    masks = masked(model)
    expected, state = model(x), masks.state()
    other = Masks(make().eval())
    other.load(state)
    other.model.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.model(x), expected)
    other.model.load_state_dict({k: torch.ones_like(v) for k, v in model.state_dict().items()})
    assert other.lost() == []
    assert other.counts() == masks.counts()
    torch.testing.assert_close(copy.deepcopy(model)(x), expected)


def test_padded_batches_on_the_nested_path():
    """nn.TransformerEncoder packs padded batches in eval; the masks hold there too."""
    torch.manual_seed(0)
    model = Attending("encoder").eval()
    masks = masked(model)
    twin, x = dense_twin(masks, lambda: Attending("encoder")), torch.rand(2, 5, 4)
    padding = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]).bool()
    found, expected = model.inner(x, src_key_padding_mask=padding), twin.inner(x, src_key_padding_mask=padding)
    torch.testing.assert_close(found[~padding], expected[~padding])


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_torchvisions_transformers(name):
    """Every masked weight learns, in a network of one block a stage, and no pruned one comes back."""
    from torchvision.models import swin_transformer, vision_transformer

    torch.manual_seed(0)
    if name == "vit_b_16":
        model = vision_transformer.VisionTransformer(16, 8, 2, 2, 8, 16, num_classes=3)
        nn.init.normal_(model.heads.head.weight)  # torchvision's begins with zeros
    else:
        model = swin_transformer.SwinTransformer([4, 4], 8, [2], [2], [2, 2], stochastic_depth_prob=0, num_classes=3)
    twin, x = copy.deepcopy(model).eval(), torch.rand(2, 3, 16, 16)
    masks = masked(model)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(2):
        model.zero_grad()
        model.train()(x).square().sum().backward()
        assert not [item.name for item in masks if not item.parameter.grad.any()]
        optimizer.step()
        assert masks.lost() == []
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), twin(x))
