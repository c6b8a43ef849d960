"""The gate before training: each kind of network and file works, or is refused in one line that names its part."""

import random
import time

import numpy as np
import odd_networks
import pytest
import torch
from torch.nn.parameter import is_lazy

import prunelab
from prunelab.config.resolve import resolve
from prunelab.config.rounds import rounds
from prunelab.data.synthetic import synthetic
from prunelab.experiment import gate
from prunelab.experiment.bench import Bench

FEW = ("data=synthetic", "data.examples=60", "train.batch_size=8")  # the last batch of an epoch has 4
ONE_LEFT = ("train.batch_size=59",)


def pass_gate(name, *more, model=None):
    """The bench of an experiment on one of `odd_networks`, which passes the gate, or raises what it says."""
    chosen = (f"model._target_=odd_networks.{name}", "trusted=[odd_networks]") if name else ()
    spec = resolve(prunelab.compose(*FEW, *chosen, *more))
    bench = Bench(spec, torch.device("cpu"), model=model)
    bench.load_data()
    gate.check(bench, rounds(spec)[0])
    return bench


@pytest.mark.parametrize(
    "name",
    [
        *("Tied", "Twins", "Repeated", "Cosine", "Spectral", "WeightNorm", "HeadFirst", "NumpyNet", "Dropout"),
        *("Views", "SharedStatistics", "SharedGates", "TiedInverse", "RepeatedAttention", "RepeatedNormed"),
        *("Standardised", "Called"),
    ],
)
def test_right_networks_pass(name):
    pass_gate(name)


@pytest.mark.parametrize(
    "name",
    [
        *("ShuffledAndSaved", "InPlace", "InPlaceLayer", "BatchNorm", "BatchStd", "BFloat16", "Double", "Float8"),
        *("CountsInABuffer", "LayerDrop"),
    ],
)
def test_what_looks_odd_but_works_passes(name):
    pass_gate(name)


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("Shuffled", (), r"the buffer order \(persistent=False\) is random or trained, and would not be saved"),
        ("ShuffledAttribute", (), r"a value that 0 \(Linear\) depends on is random or trained"),
        ("Counting", (), r"the buffer gain \(persistent=False\) is random or trained"),
        ("FromTheSystem", (), "built twice with seed=0, 1.bias differs; its weights must be drawn from torch's"),
        ("FromTheClock", (), "built twice with seed=0, 3.bias differs"),
        ("AlwaysDropout", (), r"differs from call to call in eval mode, first that of .*F.dropout needs training="),
        ("Tuple", (), r"returns tuple for 2 examples; must return logits, float32 or float64, \[2, 10 or more\]"),
        ("Dict", (), "returns dict for 2 examples"),
        ("Complex", (), r"returns complex64 \[2, 10\]"),
        ("NaN", (), r"its output is NaN or infinite before any training, first that of 2 \(NoiseFree\)"),
        ("FailsInEval", (), r"KeyError in its forward \(FailsInEval\): 'mode' \(.*odd_networks.py:\d+\)"),
        ("Cache", (), "makes scale in its forward pass; must make it in __init__"),
        ("LateParameter", (), "makes gain in its forward pass"),
        (
            "KeepsMean",
            (),
            r"cannot be trained for a second step; keep mean with \.detach\(\): RuntimeError: Trying to",
        ),
        (
            "OwnGenerator",
            (),
            r"differs from call to call in training, first that of 0 \(Flatten\), so that no run can be",
        ),
        (
            "GlobalGenerator",
            (),
            "must draw from torch's, NumPy's or Python's default generator, and count in a persistent",
        ),
        ("CountsCalls", (), r"differs from call to call in training, first that of the network \(CountsCalls\)"),
        ("ExtraState", (), "cannot be saved: its state dict holds _extra_state, a dict; must hold tensors only"),
        ("KeepsOutput", ("strategy=channel",), "cannot be copied after a training step; keep last with .detach()"),
        ("KeepsOutput", ("criterion=taylor",), "cannot be copied after a training step; keep last with .detach()"),
        (
            "BatchNorm",
            ONE_LEFT,
            r"last batch of an epoch, 1 example with train.batch_size=59: .*2 \(BatchNorm1d\)",
        ),
        ("BatchStd", ONE_LEFT, r"1 example with train.batch_size=59: the loss is nan, first the output of the network"),
        ("Squeezed", ONE_LEFT, r"cannot be trained on the last batch of an epoch, 1 example"),
        ("OneConvolution", ("export=[csr]",), "export=csr: no layer can be stored as CSR: the network has no Linear"),
        ("OneConvolution", ("quantize=int8_weight",), "quantize=int8_weight: OneConvolution has no Linear layer"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_that_names_the_part(name, more, said):
    with pytest.raises(prunelab.ConfigError, match=said) as error:
        pass_gate(name, *more)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(("model._target_=odd_networks.", "quantize=", "export="))


def test_a_batch_of_one_is_evaluated_too():
    with pytest.raises(prunelab.ConfigError, match=r"returns float32 \[10\] for 1 examples"):
        pass_gate("Squeezed", "data.examples=1005")  # 201 validation examples


@pytest.mark.parametrize("more", [("train.epochs=0", "finetune.epochs=0"), ("train.batch_size=60",)])
def test_a_batch_of_one_is_not_rehearsed_where_none_occurs(more):
    pass_gate("BatchNorm", *ONE_LEFT, *more)


@pytest.mark.parametrize("name", ["Lazy", "LazyConv"])
def test_lazy_layers_are_made_before_they_are_pruned(name):
    bench = pass_gate(name, "strategy=channel")
    assert bench.masks.counts()[1] > 0


def test_lazy_layers_of_a_live_module_are_made_in_its_copy_if_torch_can_copy_them():
    live = odd_networks.LazyConv()
    assert not any(map(is_lazy, pass_gate("", model=live).model.parameters()))
    assert any(map(is_lazy, live.parameters()))
    with pytest.raises(prunelab.ConfigError, match=r"^model=Lazy: cannot be copied: .*LazyModule"):
        pass_gate("", model=odd_networks.Lazy())


def generators():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


def everything(model):
    modes = [module.training for module in model.modules()]
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return modes, {name: tensor.detach().clone() for name, tensor in tensors.items()}, vars(model).keys()


@pytest.mark.parametrize(
    ("name", "more"), [("BatchNorm", ()), ("Dropout", ("strategy=channel", "schedule.rounds=1")), ("Counting", ())]
)
def test_the_gate_leaves_the_network_and_all_generators_as_they_were(name, more):
    spec = resolve(prunelab.compose(*FEW, f"model._target_=odd_networks.{name}", "trusted=[odd_networks]", *more))
    bench = Bench(spec, torch.device("cpu"))
    bench.load_data()
    modes, tensors, names = everything(bench.model)
    before, masks = generators(), bench.masks.state()
    try:
        gate.check(bench, rounds(spec)[0])
    except prunelab.ConfigError:
        assert name == "Counting"
    assert generators() == before
    now = everything(bench.model)
    assert (now[0], now[2]) == (modes, names)
    assert all(torch.equal(tensor, now[1][key]) for key, tensor in tensors.items())
    assert all(torch.equal(mask, bench.masks.state()[key]) for key, mask in masks.items())


def test_the_gate_is_quick():
    pass_gate("")
    start = time.process_time()
    pass_gate("")
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("name", "more"), [("InPlaceLayer", ()), ("InPlace", ("strategy=channel", "finetune.distill.alpha=0.5"))]
)
def test_a_network_that_writes_on_its_input_gets_copies(name, more, tmp_path):
    short = ("data.examples=300", "train.epochs=1", "finetune.epochs=1", "latency=false", "schedule.rounds=1")
    model = (f"model._target_=odd_networks.{name}", "trusted=[odd_networks]", f"outputs={tmp_path / 'outputs'}")
    result = prunelab.run(prunelab.compose(*FEW, *short, *model, *more))
    test = synthetic(300).test
    pairs = zip(test.inputs, test.labels, strict=True)
    trained = result.model.cpu()
    right = [int(trained(image[None].clone()).argmax()) == int(label) for image, label in pairs]
    assert result.rounds[-1].test_accuracy == pytest.approx(sum(right) / len(right), abs=1e-6)


@pytest.mark.parametrize("kind", ["safetensors", "onnx", "csr"])
def test_files_are_tried_before_training(kind, monkeypatch):
    tried = []
    monkeypatch.setattr(gate.exports, "export", lambda model, folder, kinds, example: tried.extend(kinds))
    pass_gate("", f"export=[{kind}]")
    assert tried == [kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
def test_graphs_are_tried_before_training(kind):
    pass_gate("Double", f"export=[{kind}]")
    with pytest.raises(prunelab.ConfigError, match=r"^quantize=int8_weight: cannot be made: AssertionError"):
        pass_gate("Double", "quantize=int8_weight")
    if kind == "onnx":
        with pytest.raises(prunelab.ConfigError, match=r"^export=onnx: .*NOT_IMPLEMENTED"):
            pass_gate("BFloat16", f"export=[{kind}]")
