"""The cost card: counted by hand, timed against dense, and honest where nothing is faster."""

import dataclasses
import math
import time
from importlib.util import find_spec

import pytest
import torch
from export_networks import sparse_lenet
from torch import nn

from prunelab.costs import card
from prunelab.costs import form_cost as cost
from prunelab.costs import latency as timing
from prunelab.costs.card import Form, cost_card, reason, why_no_faster
from prunelab.costs.form_cost import FormCost
from prunelab.costs.fresh_times import Timed
from prunelab.costs.latency import Interval, Latency
from prunelab.costs.memory import live_bytes, peak_bytes
from prunelab.exports import csr, graphs
from prunelab.exports import int8 as quantizing
from prunelab.exports.formats import FORMATS
from prunelab.exports.network_files import Network
from prunelab.models.deep_mlp import DeepMLP
from prunelab.models.lenet import LeNet, LeNet300100
from prunelab.models.lstm import LSTM
from prunelab.models.vit import ViT
from prunelab.pruning import skipping


def two(zeros=True):
    """A convolution of 4 weights on 3 × 3 positions and a Linear layer of 9 · 2; 3 of the latter are zero."""
    model = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten(), nn.Linear(9, 2, bias=False)).eval()
    with torch.no_grad():
        model[2].weight.view(-1)[:3] = 0.0 if zeros else 1.0
    return model


INPUTS = torch.ones(3, 1, 4, 4)


def timed(row, speedups):
    """A row with these speed-ups by batch size."""
    times = {n: Latency(Interval(1.0, 1.0, 1.0), Interval(*found)) for n, found in speedups.items()}
    return dataclasses.replace(row, latency=times)


def counts(row):
    return row.parameters, row.nonzero, row.macs, row.macs_nonzero


def test_counts_by_hand():
    (dense,) = cost_card({"dense": two()}, INPUTS, measure=False)
    assert counts(dense) == (4 + 1 + 18, 4 + 1 + 15, 4 * 9 + 18, 4 * 9 + 15)
    assert dense.latency == {}
    assert "latency_1_ms" not in dense.as_json()


def test_a_shared_parameter_counts_once_and_its_multiply_adds_twice():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 16)).eval()
    model[2].weight = model[1].weight
    (row,) = cost_card({"dense": model}, INPUTS, measure=False)
    assert counts(row) == (256 + 32, 256 + 32, 512, 512)


def test_the_record_as_plain_data():
    times = {n: Latency(Interval(2.0, 1.0, 3.0), Interval(1.5, 1.25, 1.75)) for n in (1, 256)}
    row = FormCost("csr", 1, 10, 5, 20, 9, 40, 30, None, "unseen", times, "slow")
    assert row.as_json() == {
        "form": "csr",
        "parameters": 10,
        "nonzero": 5,
        "macs": 20,
        "macs_nonzero": 9,
        "bytes": 40,
        "gzipped": 30,
        "peak_bytes": None,
        "why_no_peak": "unseen",
        "threads": 1,
        "latency_1_ms": [2.0, 1.0, 3.0],
        "speedup_1": [1.5, 1.25, 1.75],
        "latency_256_ms": [2.0, 1.0, 3.0],
        "speedup_256": [1.5, 1.25, 1.75],
        "why_no_faster": "slow",
        "runtime": "torch",
        "against": None,
        "timed_in": None,
    }
    apart = dataclasses.replace(row, default_malloc={1: Latency(Interval(4.0, 3.0, 5.0), Interval(2.0, 1.0, 3.0))})
    more = {"latency_1_ms_default_malloc": [4.0, 3.0, 5.0], "speedup_1_default_malloc": [2.0, 1.0, 3.0]}
    assert apart.as_json() == row.as_json() | more


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
    form = Form(int8.model, runtime="int8_weight")
    plain, row = cost_card({"dense": model, "int8": form}, torch.ones(1, 1, 28, 28), measure=False)
    assert row.parameters == plain.parameters == 266_610
    assert row.macs == plain.macs == 266_200
    assert row.nonzero == plain.nonzero - int8.rounded_to_zero
    assert row.bytes == int8.bytes_after < 0.3 * plain.bytes
    assert row.peak_bytes > row.bytes
    assert (row.against, row.why_no_faster) == (None, None)  # no dense network in 8 bits to compare it with


def test_files_are_what_counts_where_there_are_some(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(5000))
    form = Form(lambda x: x.flatten(1), (path,), two())
    dense, row = cost_card({"dense": two(), "other": form}, INPUTS, measure=False)
    assert row.bytes == 5000
    assert row.gzipped < 100
    assert counts(row) == counts(dense)


def test_times_say_how_they_were_taken_and_why_zeros_are_no_faster():
    torch.set_num_threads(1)
    forms = {
        "dense": LeNet300100().eval(),
        "masked": sparse_lenet(),
        "small": nn.Sequential(nn.Flatten(), nn.Linear(784, 2)),
    }
    rows = cost_card(forms, torch.randn(10, 1, 28, 28))
    dense, masked, small = rows
    assert [row.form for row in rows] == ["dense", "masked", "small"]
    assert dense.latency[256].speedup == (1.0, 1.0, 1.0)
    median, low, high = dense.latency[256].ms
    assert 0 < low <= median <= high
    assert masked.why_no_faster.endswith("256: the same multiply-adds are done, those on zeros too")
    assert small.latency[256].speedup.median > 2
    assert dense.threads == 1
    text = cost.table(rows)
    assert f"masked: {masked.why_no_faster}" in text
    text = " ".join(text.split())
    assert "interleaved turns after a warm-up, with 95% intervals; 1 thread; in a fresh process where " in text
    assert "masked and small against dense." in text


def test_zeros_are_no_faster_even_where_nothing_is_timed():
    onnx = Form(lambda x: x, counted=two(), runtime="onnx")
    rows = cost_card({"dense": two(False), "onnx": onnx, "same": two(False), "masked": two()}, INPUTS, measure=False)
    why = [row.why_no_faster for row in rows]
    assert why == [None, None, None, "no speed-up: the same multiply-adds are done, those on zeros too"]
    text = cost.table(rows)
    assert text.splitlines()[-1] == "masked: no speed-up: the same multiply-adds are done, those on zeros too"
    assert "ms" not in text.split()


def test_a_layer_that_is_left_out_does_no_multiply_adds():
    def network():
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 2)).eval()

    masked = network()
    skipping.set_skipped(masked[1], True)
    dense, row = cost_card({"dense": network(), "masked": masked}, INPUTS, measure=False)
    assert (dense.macs, row.macs, row.why_no_faster) == (288, 32, None)
    slow = timed(row, {1: (1.0, 0.9, 1.2)})
    said = why_no_faster(slow, dense, masked, True)
    assert said == "no speed-up at batch 1: 89% of the multiply-adds are gone, but most of the time is spent elsewhere"


def test_a_batch_that_is_too_slow_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.1)
    calls = []

    def slow(x):
        calls.append(len(x))
        time.sleep(0.002 if len(x) == 1 else 0.2)
        return x.flatten(1)

    rows = cost_card({"dense": Form(slow, counted=two()), "other": two()}, INPUTS)
    assert all(list(row.latency) == [1] for row in rows)
    assert 256 not in calls  # 256 times one example's time is more than there is
    assert "Batch 256 takes too long to be timed." in cost.table(rows)
    assert timing.race({"slow": lambda x: slow(x.repeat(9, 1, 1, 1))}, INPUTS, "slow", seconds=0.1) == {}
    assert calls.count(27) == 1  # one pass, and no more


def wide(names):
    """Rows of a card with the longest numbers."""
    times = {n: Latency(Interval(99.994, 99.994, 999.94), Interval(10.0, 9.0, 1100.0)) for n in (1, 256)}
    why = "no speed-up at batch 1 and 256: " + "very long words " * 9
    how = {"latency": times, "why_no_faster": why, "timed_in": "in a fresh process"}
    return [FormCost(n, 2, *[99_999_999] * 7, **how, against=None if "dense" in n else "dense (torch)") for n in names]


def test_the_table_is_no_wider_than_a_screen():
    names = [
        "dense (torch)",
        "masked (torch)",
        *(f"{what} ({kind})" for kind in FORMATS for what in ("dense", "compact")),
    ]
    unseen = {"peak_bytes": None, "why_no_peak": "another runtime allocates it"}
    text = cost.table(
        [dataclasses.replace(row, **(unseen if row.form == "compact (onnx)" else {})) for row in wide(names)]
    )
    assert max(map(len, text.splitlines())) <= 120
    assert "99,999,999" in text
    assert "at batch 256. Not known for compact (onnx): another runtime allocates it." in " ".join(text.split())
    large = cost.table([dataclasses.replace(row, macs=1_814_073_344) for row in wide(names)])
    assert max(map(len, large.splitlines())) <= 120
    assert "1,814.1 M" in large


def test_markdown_has_the_same_cells():
    rows = wide(["dense (torch)", "masked (torch)"])
    grid = cost.markdown(rows).split("\n\n")[0].splitlines()
    assert grid[0].startswith("|  | parameters | nonzero | MACs | ")
    assert grid[2] == "| dense (torch) |" + " 99,999,999 |" * 7
    grid = cost.markdown(rows).split("\n\n")[1].splitlines()
    assert grid[0] == "|  | ms at batch 1 (95%) | speed-up (95%) | ms at batch 256 (95%) | speed-up (95%) |"
    assert grid[2] == "| dense (torch) | 99.99 (99.99–999.9) | – | 99.99 (99.99–999.9) | – |"
    assert grid[3].endswith("| 99.99 (99.99–999.9) | 10.00× (9.00–1100) |")


@pytest.mark.parametrize("kind", [LeNet, LSTM, ViT])
def test_two_and_three_examples_say_what_more_need(kind):
    """An independent way: all the examples at once."""
    model, x = kind().eval(), torch.randn(17, 1, 28, 28)
    stored = list(model.state_dict().values())
    found = peak_bytes(model, x, stored, 17)
    with torch.no_grad():
        most = max(live_bytes(model, x, stored))
    assert found == most + 4 * (x.numel() + sum(value.numel() for value in stored))


def test_peak_by_hand():
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5)).eval()
    weights, given, hidden = 10 * 20 + 20 + 20 * 5 + 5, 256 * 10, 256 * 20
    (row,) = cost_card({"dense": model}, torch.ones(2, 10), measure=False)
    assert row.peak_bytes == 4 * (weights + given + 2 * hidden)  # ReLU's input and output; the last one is smaller
    (row,) = cost_card({"dense": Form(lambda x: x, counted=model)}, torch.ones(2, 10), measure=False)
    assert row.peak_bytes is None
    assert row.why_no_peak == "another runtime allocates it, and torch cannot see that"


@pytest.mark.parametrize(
    ("macs", "nonzero", "why"),
    [
        (54, 51, "the same multiply-adds are done, those on zeros too"),
        (54, 54, "the same multiply-adds are done, none of them on zeros: nothing is left to skip"),
        (27, 27, "50% of the multiply-adds"),
    ],
)
def test_reasons(macs, nonzero, why):
    (first,) = cost_card({"dense": two()}, INPUTS, measure=False)
    assert why in reason(dataclasses.replace(first, macs=macs, macs_nonzero=nonzero), first, two())


def by_hand(one, many):
    """The latency of a form by batch size: ms and speed-up."""
    return {n: Latency(Interval(ms, ms, ms), Interval(*[up] * 3)) for n, (ms, up) in {1: one, 256: many}.items()}


def test_noise_is_neither_an_effect_of_malloc_nor_unsaid():
    """The time triples, but within the interval that it had before; and an interval of a factor 8 is mentioned."""
    (row,) = cost_card({"dense (torch)": two()}, INPUTS, measure=False)
    noisy, tripled = Interval(2.0, 1.1, 9.2), Interval(6.0, 5.5, 6.5)
    up = Interval(1.0, 1.0, 1.0)
    row = dataclasses.replace(row, latency={256: Latency(noisy, up)}, default_malloc={256: Latency(tripled, up)})
    text = " ".join(" ".join(cost.notes([row])).split())
    assert "default settings" not in text
    assert "Times scatter by more than a factor of 2, as on a busy machine: dense (torch) at batch 256." in text
    calm = dataclasses.replace(row, latency={256: Latency(Interval(2.0, 1.9, 2.1), up)})
    text = " ".join(" ".join(cost.notes([calm])).split())
    assert "batch 256 takes dense (torch) 3.0 times as long" in text
    assert "scatter" not in text


def test_the_gain_of_a_runtime_is_not_prunings(monkeypatch):
    """ONNX is 7 times as fast as torch, and pruning gains nothing there."""
    measured = {
        "dense (torch)": by_hand((7.0, 1.0), (60.0, 1.0)),
        "compact (torch)": by_hand((5.0, 1.4), (40.0, 1.5)),
        "dense (onnx)": by_hand((1.0, 1.0), (45.0, 1.0)),
        "compact (onnx)": by_hand((1.0, 1.0), (45.0, 1.0)),
    }
    default = {name: by_hand((ms[1].ms.median, 1.0), (3 * ms[256].ms.median, 2.6)) for name, ms in measured.items()}
    asked = {}

    def time_fresh(runs, inputs, references):
        asked.update(references)
        times, other = (
            {n: {name: row[n] for name, row in some.items()} for n in (1, 256)} for some in (measured, default)
        )
        return Timed(times, other, "in a fresh process")

    monkeypatch.setattr(card, "time_fresh", time_fresh)
    networks = {name: two("dense" not in name) for name in measured}
    forms = {name: Form(model, runtime=name.partition("(")[2][:-1]) for name, model in networks.items()}
    rows = cost_card(forms, INPUTS)
    assert asked == {name: "dense (onnx)" if "onnx" in name else "dense (torch)" for name in measured}
    assert [row.against for row in rows] == [None, "dense (torch)", None, "dense (onnx)"]
    assert [row.why_no_faster is None for row in rows] == [True, True, True, False]
    text = " ".join(cost.table(rows).split())
    assert "dense (onnx) is 7.00× (7.00–7.00) at batch 1 and 1.33× (1.33–1.33) at batch 256 as fast as dense" in text
    assert "compact (torch) against dense (torch); compact (onnx) against dense (onnx)." in text
    assert "With malloc's default settings, batch 256 takes dense (torch) 3.0 times as long, compact" in text
    assert "compact (torch) 3.0 times as long (speed-up 2.60×)" in text
    assert "batch 1 takes" not in text
    without = [dataclasses.replace(row, default_malloc={1: row.default_malloc[1]}) for row in rows]
    assert "Batch 256 takes too long to be timed with malloc's default, too." in cost.table(without)


FASTER, HARDLY, EVEN = (1.5, 1.4, 1.6), (1.07, 1.05, 1.09), (1.07, 0.99, 1.2)


@pytest.mark.parametrize(
    ("one", "many", "said"),
    [
        (FASTER, FASTER, None),
        (HARDLY, FASTER, "hardly faster at batch 1: "),
        (HARDLY, HARDLY, "hardly faster at batch 1 and 256: "),
        (EVEN, EVEN, "no speed-up at batch 1 and 256: "),
        (EVEN, HARDLY, "no speed-up at batch 1, hardly faster at batch 256: "),
        (HARDLY, (0.5, 0.4, 0.6), "hardly faster at batch 1, no speed-up at batch 256: "),
    ],
)
def test_a_small_speed_up_is_not_called_none(one, many, said):
    (first,) = cost_card({"dense": two()}, INPUTS, measure=False)
    found = why_no_faster(timed(first, {1: one, 256: many}), first, two(), True)
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
    same = Latency(Interval(1.0, 1.0, 1.0), Interval(1.0, 1.0, 1.0))
    monkeypatch.setattr(
        card, "time_fresh", lambda runs, *rest: Timed({n: dict.fromkeys(runs, same) for n in (1, 256)}, {}, "")
    )
    _, row = cost_card({"dense": kind().eval(), "compact": kind().eval()}, INPUTS)
    assert (row.macs, row.macs_nonzero) == (0, 0)
    why = "its layers are of types whose multiply-adds are not counted, so it is not known what was saved"
    assert row.why_no_faster == f"no speed-up at batch 1 and 256: {why}"


def test_the_file_of_another_runtime_has_nothing_of_layers_that_are_skipped():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 2)).eval()
    skipping.set_skipped(model[1], True)
    module, graph = cost_card({"module": model, "onnx": Form(lambda x: x, counted=model)}, INPUTS, measure=False)
    assert (module.parameters, module.nonzero) == (306, 306)
    assert (graph.parameters, graph.nonzero) == (34, 34)


@pytest.mark.skipif(find_spec("onnxruntime") is None or find_spec("onnxscript") is None, reason="needs onnx")
def test_parameters_of_graphs_are_those_in_their_files(tmp_path):
    import onnx

    model = DeepMLP(depth=2).eval()
    skipping.set_skipped(model.blocks[0], True)
    network = Network(model, torch.randn(3, 1, 28, 28))
    graphs.save_onnx(tmp_path, network)
    graphs.save_program(tmp_path, network)
    loaded = {"onnx": graphs.load_onnx(tmp_path), "torch_export": graphs.load_program(tmp_path)}
    forms = {name: Form(run, counted=model) for name, run in loaded.items()}
    rows = cost_card(forms, torch.randn(3, 1, 28, 28), measure=False)
    stored = onnx.load(str(tmp_path / graphs.ONNX)).graph.initializer
    floats = sum(math.prod(item.dims) for item in stored if item.data_type == onnx.TensorProto.FLOAT)
    program = torch.export.load(tmp_path / graphs.PROGRAM).state_dict
    assert [row.parameters for row in rows] == [floats, sum(value.numel() for value in program.values())]
    assert floats == 785 * 100 + 10_100 + 1_010


class Fickle(nn.Linear):
    """Does more for 3 examples than for 2."""

    def forward(self, x):
        return super().forward(x + 1 if len(x) == 3 else x)


def test_why_a_peak_is_not_known_is_said_of_each():
    model = Fickle(16, 2).eval()
    forms = {"dense": model, "masked": model, "onnx": Form(lambda x: x, counted=model)}
    rows = cost_card(forms, torch.ones(3, 16), measure=False)
    assert [row.peak_bytes for row in rows] == [None] * 3
    text = " ".join(cost.table(rows).split())
    assert "Not known for dense and masked: it runs other operations on 2 examples than on 3." in text
    assert "Not known for onnx: another runtime allocates it" in text


def test_what_is_missing():
    with pytest.raises(ValueError, match=r"onnx: is no torch.nn.Module; must say what is counted"):
        cost_card({"dense": two(), "onnx": Form(lambda x: x)}, INPUTS)


def test_counting_does_not_import_the_compiler(warm_python, tmp_path):
    """That would take a second of every run."""
    code = (
        "import sys, torch; from prunelab.models.lenet import LeNet; from prunelab.costs.card import cost_card;"
        "cost_card({'dense': LeNet().eval()}, torch.zeros(1, 1, 28, 28), False); print('torch._dynamo' in sys.modules)"
    )
    assert warm_python(code, cwd=tmp_path).stdout == "False\n"
