"""The cost card: counted by hand, timed against dense, and honest where nothing is faster."""

import math
import time
from importlib.util import find_spec

import pytest
import torch
from networks import config, sparse_lenet
from torch import nn
from torch.nn.utils import prune

from prunelab.costs import card
from prunelab.costs import latency as timing
from prunelab.costs.card import Form, cost_card
from prunelab.costs.memory import _live, peak_bytes
from prunelab.exports import csr, graphs
from prunelab.exports import int8 as quantizing
from prunelab.exports.checkpoint import Network
from prunelab.exports.formats import FORMATS
from prunelab.models.deep_mlp import DeepMLP
from prunelab.models.lenet import LeNet, LeNet300100
from prunelab.models.lstm import LSTM
from prunelab.models.vit import ViT
from prunelab.pruning import skipping
from prunelab.tracking import cost_table as cost


def two(zeros=True):
    """A convolution of 4 weights on 3 × 3 positions and a Linear layer of 9 · 2; 3 of the latter are zero."""
    model = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten(), nn.Linear(9, 2, bias=False)).eval()
    with torch.no_grad():
        model[2].weight.view(-1)[:3] = 0.0 if zeros else 1.0
    return model


INPUTS = torch.ones(3, 1, 4, 4)


def counts(row):
    return tuple(row[key] for key in ("parameters", "nonzero", "macs", "macs_nonzero"))


def test_counts_by_hand():
    (dense,) = cost_card({"dense": two()}, INPUTS, measure=False)
    assert counts(dense) == (4 + 1 + 18, 4 + 1 + 15, 4 * 9 + 18, 4 * 9 + 15)
    assert "latency_1_ms" not in dense


def test_masks_count_as_zeros_but_their_multiply_adds_are_done():
    masked = two(zeros=False)
    prune.custom_from_mask(masked[2], "weight", (torch.arange(18) >= 3).view(2, 9))
    (row,) = cost_card({"dense": masked}, INPUTS, measure=False)
    assert counts(row) == (23, 20, 54, 51)


def test_csr_layers_do_no_multiply_adds_on_zeros():
    model = two()
    sparse = csr.sparsify(model, 0.1, 0)
    assert sparse.layers == {"2": [9, 2, 15]}
    (row,) = cost_card({"dense": sparse.model}, INPUTS, measure=False)
    assert counts(row) == (20, 20, 51, 51)


@pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao")
def test_quantised_layers_count_by_their_numbers():
    model = sparse_lenet()
    int8 = quantizing.quantize(model, "int8_weight")
    plain, row = cost_card({"dense": model, "int8": int8.model}, torch.ones(1, 1, 28, 28), measure=False)
    assert row["parameters"] == plain["parameters"] == 266_610
    assert row["macs"] == plain["macs"] == 266_200
    assert row["nonzero"] == plain["nonzero"] - int8.rounded_to_zero
    assert row["bytes"] == int8.bytes_after < 0.3 * plain["bytes"]
    assert row["peak_bytes"] > row["bytes"]
    assert "8-bit weights save bytes" in card._reason(row, plain, Form(int8.model))


def test_files_are_what_counts_where_there_are_some(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(5000))
    form = Form(lambda x: x.flatten(1), (path,), two())
    dense, row = cost_card({"dense": two(), "other": form}, INPUTS, measure=False)
    assert row["bytes"] == 5000
    assert row["gzipped"] < 100
    assert counts(row) == counts(dense)


def test_times_say_how_they_were_taken_and_why_masks_are_no_faster():
    torch.set_num_threads(1)
    masked = sparse_lenet()
    for name in ("fc1", "fc2", "fc3"):
        prune.custom_from_mask(getattr(masked, name), "weight", getattr(masked, name).weight != 0)
    forms = {"dense": LeNet300100().eval(), "masked": masked, "small": nn.Sequential(nn.Flatten(), nn.Linear(784, 2))}
    rows = cost_card(forms, torch.randn(10, 1, 28, 28))
    dense, masked, small = rows
    assert [row["form"] for row in rows] == ["dense", "masked", "small"]
    assert dense["speedup_256"] == [1.0, 1.0, 1.0]
    low, high = dense["latency_256_ms"][1:]
    assert 0 < low <= dense["latency_256_ms"][0] <= high
    assert masked["why_no_faster"].endswith("1 and 256: masks are multiplied in, nothing is skipped")
    assert small["speedup_256"][0] > 2
    assert dense["threads"] == 1
    text = cost.table(rows)
    assert "masked: no speed-up at batch 1 and 256: masks are multiplied in, nothing is skipped" in text
    assert "interleaved turns after a warm-up, with 95% intervals; 1 thread." in text


def test_masks_are_no_faster_even_where_nothing_is_timed():
    masked = two()
    prune.identity(masked[2], "weight")
    rows = cost_card({"dense": two(), "masked": masked, "baked": two()}, INPUTS, measure=False)
    why = [row["why_no_faster"] for row in rows]
    assert why == [None, "no speed-up: masks are multiplied in, nothing is skipped", None]
    text = cost.table(rows)
    assert text.splitlines()[-1] == "masked: no speed-up: masks are multiplied in, nothing is skipped"
    assert "ms" not in text.split()


def test_masks_of_a_layer_that_is_skipped_are_not_said_to_skip_nothing():
    def network():
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 2)).eval()

    masked = network()
    for index in (1, 2):
        prune.identity(masked[index], "weight")
    skipping.set_skipped(masked[1], True)
    dense, row = cost_card({"dense": network(), "masked": masked}, INPUTS, measure=False)
    assert (dense["macs"], row["macs"], row["why_no_faster"]) == (288, 32, None)
    said = card._why({**row, "speedup_1": [1.0, 0.9, 1.2]}, dense, Form(masked))
    assert said == "no speed-up at batch 1: masks are multiplied in, in all layers that are left"


def test_a_batch_that_is_too_slow_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.1)
    calls = []

    def slow(x):
        calls.append(len(x))
        time.sleep(0.002 if len(x) == 1 else 0.2)
        return x.flatten(1)

    rows = cost_card({"dense": Form(slow, counted=two()), "other": two()}, INPUTS)
    assert all(("latency_1_ms" in row, "latency_256_ms" in row) == (True, False) for row in rows)
    assert 256 not in calls  # 256 times one example's time is more than there is
    assert "Batch 256 takes too long to be timed." in cost.table(rows)
    assert timing.race({"slow": lambda x: slow(x.repeat(9, 1, 1, 1))}, INPUTS, "slow") == {}
    assert calls.count(27) == 1  # one pass, and no more


def wide(names):
    """Rows of a card with the longest numbers."""
    times = {f"latency_{n}_ms": [99.994, 99.994, 999.94] for n in (1, 256)} | {
        f"speedup_{n}": [10.0, 9.0, 1100.0] for n in (1, 256)
    }
    sizes = dict.fromkeys(cost.SIZES, 99_999_999)
    why = "no speed-up at batch 1 and 256: " + "very long words " * 9
    return [{"form": name, **sizes, **times, "threads": 2, "why_no_faster": why} for name in names]


def test_the_table_is_no_wider_than_a_screen():
    names = ["dense", "masked", "compact", *FORMATS]
    unseen = {"peak_bytes": None, "why_no_peak": "another runtime allocates it"}
    text = cost.table([row | (unseen if row["form"] == "onnx" else {}) for row in wide(names)[:-1]])
    assert max(map(len, text.splitlines())) <= 120
    assert "99,999,999" in text
    assert "at batch 256; of onnx not known: another runtime allocates it." in " ".join(text.split())
    large = cost.table([{**row, "macs": 1_814_073_344} for row in wide(names)[:-1]])
    assert max(map(len, large.splitlines())) <= 120
    assert "1,814.1 M" in large


def test_markdown_has_the_same_cells():
    rows = wide(["dense", "masked"])
    grid = cost.markdown(rows).split("\n\n")[0].splitlines()
    assert grid[0] == "| cost | dense | masked |"
    assert "| MACs | 99,999,999 | 99,999,999 |" in grid
    assert "| ms at batch 256 | 99.99 | 99.99 |" in grid
    assert "| 95% interval | 99.99–999.9 | 99.99–999.9 |" in grid
    assert grid[-2:] == ["| speed-up | 10.00× | 10.00× |", "| 95% interval | 9.00–1100 | 9.00–1100 |"]


@pytest.mark.parametrize("kind", [LeNet, LSTM, ViT])
def test_two_and_three_examples_say_what_more_need(kind):
    """An independent way: all the examples at once."""
    model, x = kind().eval(), torch.randn(17, 1, 28, 28)
    stored = list(model.state_dict().values())
    found = peak_bytes(model, x, stored, 17)
    with torch.no_grad():
        most = max(_live(model, x, stored))
    assert found == most + 4 * (x.numel() + sum(value.numel() for value in stored))


def test_peak_by_hand():
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5)).eval()
    weights, given, hidden = 10 * 20 + 20 + 20 * 5 + 5, 256 * 10, 256 * 20
    (row,) = cost_card({"dense": model}, torch.ones(2, 10), measure=False)
    assert row["peak_bytes"] == 4 * (weights + given + 2 * hidden)  # ReLU's input and output; the last one is smaller
    (row,) = cost_card({"dense": Form(lambda x: x, counted=model)}, torch.ones(2, 10), measure=False)
    assert row["peak_bytes"] is None
    assert row["why_no_peak"] == "another runtime allocates it, out of sight"


@pytest.mark.parametrize(
    ("macs", "nonzero", "why"),
    [
        (54, 51, "the same multiply-adds are done, those on zeros too"),
        (54, 54, "the same multiply-adds are done, none of them on zeros: nothing is left to skip"),
        (27, 27, "50% of the multiply-adds"),
    ],
)
def test_reasons(macs, nonzero, why):
    assert why in card._reason({"macs": macs, "macs_nonzero": nonzero}, {"macs": 54}, Form(two()))


FASTER, HARDLY, EVEN = [1.5, 1.4, 1.6], [1.07, 1.05, 1.09], [1.07, 0.99, 1.2]


@pytest.mark.parametrize(
    ("one", "many", "said"),
    [
        (FASTER, FASTER, None),
        (HARDLY, FASTER, "hardly faster at batch 1: "),
        (HARDLY, HARDLY, "hardly faster at batch 1 and 256: "),
        (EVEN, EVEN, "no speed-up at batch 1 and 256: "),
        (EVEN, HARDLY, "no speed-up at batch 1, hardly faster at batch 256: "),
        (HARDLY, [0.5, 0.4, 0.6], "hardly faster at batch 1, no speed-up at batch 256: "),
    ],
)
def test_a_small_speed_up_is_not_called_none(one, many, said):
    row = {"macs": 54, "macs_nonzero": 51, "speedup_1": one, "speedup_256": many}
    found = card._why(row, {"macs": 54}, Form(two()))
    assert found == (said and f"{said}the same multiply-adds are done, those on zeros too")


class Own(nn.Module):
    """A user's own layer: its multiply-adds are not counted."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16, 2))

    def forward(self, x):
        return x.flatten(1) @ self.weight


@pytest.mark.parametrize("kind", [Own, nn.Flatten])
def test_networks_without_counted_multiply_adds_have_a_card(kind, monkeypatch):
    monkeypatch.setattr(timing, "REPEATS", 6)
    same = timing.Latency(timing.Interval(1.0, 1.0, 1.0), timing.Interval(1.0, 1.0, 1.0))
    monkeypatch.setattr(card, "race", lambda runs, *rest: dict.fromkeys(runs, same))
    _, row = cost_card({"dense": kind().eval(), "compact": kind().eval()}, INPUTS)
    assert (row["macs"], row["macs_nonzero"]) == (0, 0)
    why = "it has no layers whose multiply-adds are counted, so what was saved is not known"
    assert row["why_no_faster"] == f"no speed-up at batch 1 and 256: {why}"


def test_the_file_of_another_runtime_has_nothing_of_layers_that_are_skipped():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 2)).eval()
    skipping.set_skipped(model[1], True)
    module, graph = cost_card({"module": model, "onnx": Form(lambda x: x, counted=model)}, INPUTS, measure=False)
    assert (module["parameters"], module["nonzero"]) == (306, 306)
    assert (graph["parameters"], graph["nonzero"]) == (34, 34)


@pytest.mark.skipif(find_spec("onnxruntime") is None or find_spec("onnxscript") is None, reason="needs onnx")
def test_parameters_of_graphs_are_those_in_their_files(tmp_path):
    import onnx

    model = DeepMLP(depth=2).eval()
    skipping.set_skipped(model.blocks[0], True)
    network = Network(model, {}, config(tmp_path, "model=deep_mlp"))
    graphs.save_onnx(tmp_path, network)
    graphs.save_program(tmp_path, network)
    loaded = {"onnx": graphs.load_onnx(tmp_path), "torch_export": graphs.load_program(tmp_path)}
    forms = {name: Form(run, counted=model) for name, run in loaded.items()}
    rows = cost_card(forms, torch.randn(3, 1, 28, 28), measure=False)
    stored = onnx.load(str(tmp_path / graphs.ONNX)).graph.initializer
    floats = sum(math.prod(item.dims) for item in stored if item.data_type == onnx.TensorProto.FLOAT)
    program = torch.export.load(tmp_path / graphs.PROGRAM).state_dict
    assert [row["parameters"] for row in rows] == [floats, sum(value.numel() for value in program.values())]
    assert floats == 785 * 100 + 10_100 + 1_010


class Fickle(nn.Linear):
    """Does more for 3 examples than for 2."""

    def forward(self, x):
        return super().forward(x + 1 if len(x) == 3 else x)


def test_why_a_peak_is_not_known_is_said_of_each():
    model = Fickle(16, 2).eval()
    forms = {"dense": model, "masked": model, "onnx": Form(lambda x: x, counted=model)}
    rows = cost_card(forms, torch.ones(3, 16), measure=False)
    assert [row["peak_bytes"] for row in rows] == [None] * 3
    text = " ".join(cost.table(rows).split())
    assert "; of dense and masked not known: 2 examples and 3 take different operations" in text
    assert "; of onnx not known: another runtime allocates it" in text
    assert "allocates cannot be seen" not in text


def test_what_is_missing():
    with pytest.raises(ValueError, match=r"onnx: is no torch.nn.Module; must say what is counted"):
        cost_card({"dense": two(), "onnx": Form(lambda x: x)}, INPUTS)


def test_counting_does_not_import_the_compiler(python, tmp_path):
    """That would take a second of every run."""
    code = (
        "import sys, torch; from prunelab.models.lenet import LeNet; from prunelab.costs.card import cost_card;"
        "cost_card({'dense': LeNet().eval()}, torch.zeros(1, 1, 28, 28), False); print('torch._dynamo' in sys.modules)"
    )
    assert python(code, cwd=tmp_path).stdout == "False\n"
