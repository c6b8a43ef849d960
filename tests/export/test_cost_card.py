"""The cost card: counted by hand, timed against dense, and honest where nothing is faster."""

from importlib.util import find_spec

import pytest
import torch
from networks import sparse_lenet
from torch import nn
from torch.nn.utils import prune

from prunelab.export import cost_card as card
from prunelab.export import csr, quantizing
from prunelab.export.cost_card import Form, cost_card, table
from prunelab.models.lenet import LeNet300100


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
    text = table(rows)
    assert "masked: no speed-up at batch 1 and 256: masks are multiplied in, nothing is skipped" in text
    assert "interleaved turns after a warm-up, 1 thread(s)" in text
    assert len({len(line) for line in text.splitlines()[:4]}) == 1  # columns stand below each other


def test_peak_by_hand():
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5)).eval()
    weights, given, hidden = 10 * 20 + 20 + 20 * 5 + 5, 256 * 10, 256 * 20
    (row,) = cost_card({"dense": model}, torch.ones(2, 10), measure=False)
    assert row["peak_bytes"] == 4 * (weights + given + 2 * hidden)  # ReLU's input and output; the last one is smaller
    (row,) = cost_card({"dense": Form(lambda x: x, counted=model)}, torch.ones(2, 10), measure=False)
    assert row["peak_bytes"] is None


@pytest.mark.parametrize(
    ("macs", "why"), [(54, "the same multiply-adds are done, those on zeros too"), (27, "50% of the multiply-adds")]
)
def test_reasons(macs, why):
    assert why in card._reason({"macs": macs}, {"macs": 54}, Form(two()))


def test_what_is_missing():
    with pytest.raises(ValueError, match="reference=dense: must be one of masked"):
        cost_card({"masked": two()}, INPUTS)
    with pytest.raises(ValueError, match=r"onnx: is no torch.nn.Module; must say what is counted"):
        cost_card({"dense": two(), "onnx": Form(lambda x: x)}, INPUTS)
