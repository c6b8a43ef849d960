"""Which tensors are pruned: by default, by patterns, and the output layer; those that are not plain are refused."""

import pytest
import torch
from networks_to_prune import Tied, Twins, spectral, weight_normed
from torch import nn
from torch.nn.utils import prune

import prunelab
from prunelab.errors import ConfigError
from prunelab.models.lenet import LeNet
from prunelab.pruning.masks import Masks
from prunelab.pruning.prunable import check_plain, is_prunable, left_out, select
from prunelab.pruning.pruner import Pruner

LENET_WEIGHTS = ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "fc3.weight"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


def selected(model, *args):
    names = {module: name for name, module in model.named_modules()}
    return [f"{names[module]}.{key}" for module, key in select(model, *args)]


def test_default_is_every_conv_and_linear_weight():
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
def test_patterns(include, exclude, expected):
    assert selected(LeNet(), include, exclude) == expected


def test_patterns_may_name_other_layers():
    assert selected(Net(), ["norm.weight"]) == ["norm.weight"]


def test_patterns_are_case_sensitive():
    with pytest.raises(ConfigError):
        select(Net(), ["FC.weight"])


def test_the_output_layer_is_spared():
    assert selected(LeNet(), None, (), ["fc3"]) == LENET_WEIGHTS[:-1]
    assert selected(LeNet(), ["fc[23].*"], (), ["fc3"]) == ["fc2.weight", "fc2.bias"]


@pytest.mark.parametrize(
    ("include", "exclude", "quoted"),
    [
        (["conv.weight", "fx*"], [], "prune.include=[conv.weight,fx*]: fx* matches no parameter"),
        (None, ["fc1.*"], "prune.exclude=[fc1.*]: fc1.* matches no parameter"),
        (["fc.weight"], ["fc.*"], "prune.include=[fc.weight], prune.exclude=[fc.*]: no tensor is left to prune"),
        (None, ["*"], "prune.include=null, prune.exclude=[*]: no tensor is left to prune"),
        ([], [], "prune.include=[], prune.exclude=[]: no tensor is left to prune"),
    ],
)
def test_errors_list_the_names(include, exclude, quoted):
    with pytest.raises(ConfigError) as error:
        select(Net(), include, exclude)
    assert quoted in str(error.value)
    assert "the model has conv.weight, conv.bias, norm.weight, norm.bias, fc.weight, fc.bias" in str(error.value)


def test_an_error_says_that_the_output_layer_is_unpruned():
    with pytest.raises(ConfigError, match=r"prune\.output_layer=false leaves fc unpruned"):
        select(Net(), ["fc.*"], (), ["fc"])


def test_a_network_without_weights_is_said_to_have_none():
    with pytest.raises(ConfigError, match=r"no tensor is left to prune; the model has no weights$"):
        select(nn.Flatten())


def test_an_error_tells_why_nothing_is_left_and_is_short():
    with pytest.raises(
        ConfigError, match="no tensor is left to prune; 0: its weight is computed from parametrizations"
    ):
        select(nn.Sequential(weight_normed()))
    with pytest.raises(
        ConfigError, match=r"no tensor is left to prune; w.0: a tensor of ParameterList is not pruned by"
    ):
        select(nn.ParameterDict({"w": nn.ParameterList([torch.zeros(2, 3)])}))
    with pytest.raises(ConfigError, match=r"the model has 0.weight, .*, 5.bias, … \(80 in all\)$"):
        select(nn.Sequential(*(nn.Linear(1, 1) for _ in range(40))), ["head"])


def test_a_shared_tensor_is_selected_once_and_spared_under_each_of_its_names():
    assert selected(Twins()) == ["a.weight", "b.weight", "o.weight"]
    for name in ("b", "c"):
        assert selected(Twins(), None, [f"{name}.*"]) == ["a.weight", "o.weight"]
        assert selected(Twins(), None, (), [name]) == ["a.weight", "o.weight"]
        assert selected(Twins(), [f"{name}.weight"]) == [f"{name}.weight"]
    assert selected(Tied()) == ["mix.weight", "dec.weight"]  # not the embedding's
    assert selected(Tied(), ["emb.weight"]) == ["emb.weight"]


def test_what_is_prunable():
    assert is_prunable(nn.ConvTranspose1d(1, 1, 1), "weight")
    assert not is_prunable(nn.Linear(1, 1), "bias")
    assert not is_prunable(nn.LayerNorm(4), "weight")
    assert not is_prunable(nn.Embedding(4, 4), "weight")
    projected = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True)
    assert [key for key, _ in projected.named_parameters(recurse=False) if is_prunable(projected, key)] == [
        *("q_proj_weight", "k_proj_weight", "v_proj_weight")
    ]
    assert selected(nn.Sequential(nn.MultiheadAttention(4, 2))) == ["0.in_proj_weight", "0.out_proj.weight"]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_the_weights_of_recurrent_layers_are_prunable_and_their_biases_are_not():
    rnn = nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2)
    expected = [f"0.{name}" for name, p in rnn.named_parameters() if p.dim() == 2]
    assert selected(nn.Sequential(rnn)) == expected
    assert {"0.weight_ih_l0", "0.weight_hh_l1_reverse", "0.weight_hr_l0"} <= set(expected)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
def test_layers_whose_weight_is_computed_are_left_out_by_name():
    model = nn.Sequential(spectral(), weight_normed(), nn.Linear(2, 2), nn.utils.weight_norm(nn.Linear(2, 2)))
    said = left_out(model, select(model))
    assert list(said) == ["0", "1", "3"]
    assert "weight_orig; prune.include can name these" in said["0"]
    assert "parametrizations.weight.original0, parametrizations.weight.original1" in said["1"]
    assert "weight_g, weight_v" in said["3"]
    lenet = LeNet()
    assert left_out(lenet, select(lenet)) == {}


def test_other_tensors_and_the_output_layer_are_left_out_by_name():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix, self.gain = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(3))

    model = nn.ModuleDict({"a": nn.Embedding(3, 2), "b": nn.Bilinear(2, 2, 2), "c": Own(), "d": nn.Linear(2, 2)})
    model["e"] = nn.LSTMCell(2, 2)
    said = left_out(model, select(model, None, ["b.*"], ["d"]), ["d"], ["b.*"])
    assert list(said) == ["a.weight", "c.matrix", "d.weight"]
    assert said["a.weight"] == "a tensor of Embedding is not pruned by default; prune.include can name it"
    assert "gives the output; prune.output_layer=true" in said["d.weight"]


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_quantised_layers_are_left_out_by_name():
    model = nn.Sequential(torch.ao.nn.quantized.dynamic.Linear(4, 4), nn.Linear(4, 2))
    assert left_out(model, select(model)) == {"0": "Linear is quantised, and is not trained"}


def test_a_model_in_the_form_of_torch_prune_is_refused_in_one_line():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    prune.l1_unstructured(model[1], "weight", 0.5)
    with pytest.raises(ConfigError, match=r"^model: 1\.weight is in the form of torch.*from_torch_prune\(model\)$"):
        select(model)


def test_layers_without_a_shape_are_refused_in_one_line():
    lazy = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    with pytest.raises(ConfigError, match=r"^model: 0\.weight, 0\.bias have no shape yet; call the model on a batch"):
        select(lazy)
    lazy(torch.ones(1, 4))
    assert selected(lazy) == ["0.weight", "1.weight"]


def test_the_default_choice_can_be_masked():
    masks = Masks(model := Twins())
    masks.add(select(model))
    assert [item.name for item in masks] == ["a.weight", "b.weight", "o.weight"]


# Weights that are no plain parameters, of a model of a config or a live one


def memory(how):
    """Two layers with weights [4, 4], of which `how` makes the second from the first."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = nn.Parameter(how(net[0].weight.data))
    return net


@pytest.mark.parametrize(
    "how",
    [
        lambda w: w,
        lambda w: w.T,
        lambda w: w[1:],
        lambda w: w.view(-1)[::2].view(2, 4),
        lambda w: w.view(torch.int32).view(torch.float32),
        lambda w: torch.view_as_complex(w.view(4, 2, 2)),
    ],
)
def test_parameters_that_share_memory_are_refused(how):
    with pytest.raises(ConfigError, match=r"model: elements of 0\.weight, 1\.weight share memory; share the parameter"):
        check_plain(memory(how))


@pytest.mark.parametrize(
    "how", [lambda w: w[:1].expand(4, 4), lambda w: w.flatten().unfold(0, 4, 1), lambda w: torch.zeros(()).expand(2, 4)]
)
def test_a_parameter_whose_elements_share_memory_is_refused(how):
    with pytest.raises(ConfigError, match=r"model: elements of 1\.weight share memory"):
        check_plain(memory(lambda w: how(w.clone())))


def test_views_of_other_elements_and_empty_parameters_are_parameters_like_others():
    flat = torch.arange(64.0)
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    for layer, part in zip(net, (flat[:16], flat[16:48:2], flat[17:48:2], flat[48:]), strict=True):
        layer.weight = nn.Parameter(part.view(4, 4))
        layer.bias = nn.Parameter(torch.empty(0))
    net[3].weight = nn.Parameter(net[3].weight.T)
    check_plain(net)
    check_plain(LeNet().to(memory_format=torch.channels_last))


def test_a_script_is_refused():
    with pytest.warns((FutureWarning, DeprecationWarning)):  # torch 2.11 gives the latter
        script = torch.jit.script(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="model: 0 is a ScriptModule, which takes no hooks; must be the plain module"):
        check_plain(nn.Sequential(script, nn.Linear(2, 2)))


def test_parameters_without_values_are_refused():
    with pytest.raises(ConfigError, match=r"model: 1\.weight is on the device meta, without values"):
        check_plain(nn.Sequential(nn.ReLU(), nn.Linear(2, 2, device="meta")))


@pytest.mark.parametrize(
    "live", [lambda: memory(lambda w: w), lambda: nn.Linear(4, 4, device="meta")], ids=["memory", "meta"]
)
def test_both_doors_refuse_live_modules(live, tmp_path):
    data = torch.rand(40, 4), torch.arange(40) % 4
    with pytest.raises(ConfigError, match=r"^model: "):
        Pruner(live())
    with pytest.raises(ConfigError, match=r"^model: "):
        prunelab.run("device=cpu", f"outputs={tmp_path}", model=live(), data=(data, data), quiet=True)
