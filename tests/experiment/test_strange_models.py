"""Networks with shared, repeated, normalised and unused weights: what is reported is what the saved files hold.

The files are counted by NumPy, not by prunelab.
"""

import json
import struct
from dataclasses import asdict

import numpy as np
import pytest
import torch
from conftest import composed, table

import prunelab

TOY = "odd_networks"


def run(folder, name, *more):
    config = composed(folder, f"model._target_={TOY}.{name}", f"trusted=[{TOY}]", *more)
    return prunelab.run(config)


def read(path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, by its published format: the header's length, a JSON header, the bytes."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    kinds = {"F32": np.float32, "BOOL": np.bool_, "I64": np.int64}
    found = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = np.frombuffer(data[8 + length + begin : 8 + length + end], kinds[entry["dtype"]])
            found[name] = values.reshape(entry["shape"])
    return found


def saved(result):
    return read(result.folder / "model.safetensors"), read(result.folder / "masks.safetensors")


def check_masks(result):
    """The saved model's zeros are those of the masks, in the model that is returned too."""
    weights, masks = saved(result)
    state = {name: value.numpy() for name, value in result.model.state_dict().items()}
    for name, mask in masks.items():
        assert ((weights[name] == 0) == ~mask).all(), name
        assert (state[name] == weights[name]).all(), name


def nonzero(weights, *aliases):
    """Parameters that are not zero; those under a second name are counted once."""
    return sum(int(np.count_nonzero(value)) for name, value in weights.items() if name not in aliases)


def test_a_tied_weight_has_one_mask_and_is_counted_once(tmp_path):
    result = run(tmp_path, "Tied", "schedule.rounds=2", "amount=0.5")
    weights, masks = saved(result)
    assert result.model.emb.weight is result.model.dec.weight
    assert set(masks) <= {"emb.weight", "mix.weight"}
    shared = weights.get("emb.weight", weights.get("dec.weight"))
    if "dec.weight" in weights and "emb.weight" in weights:
        assert (weights["dec.weight"] == weights["emb.weight"]).all()
    row = result.rounds[-1]
    assert row.parameters == 32 * 32 + 49 * 32 * 32 + 32
    kept = np.count_nonzero(shared) + np.count_nonzero(weights["mix.weight"]) + np.count_nonzero(weights["mix.bias"])
    assert row.nonzero == kept
    check_masks(result)


def test_twins_are_reported_as_they_are_saved(tmp_path):
    more = ("strategy=custom", "strategy.method=torch.nn.utils.prune.RandomUnstructured", "amount=0.5")
    result = run(tmp_path, "Twins", *more)
    weights, _ = saved(result)
    assert nonzero(weights, "c.weight") == result.rounds[-1].nonzero
    again = prunelab.load(result.folder, trusted=[TOY])
    x = torch.rand(5, 1, 28, 28)
    assert torch.equal(again(x), result.model.eval()(x))
    check_masks(result)


def test_the_mask_of_a_repeated_block_survives_rewinding_and_resuming(tmp_path):
    more = ("strategy=l1", "amount=0.5", "rewind=0", "schedule.rounds=2")
    result = run(tmp_path, "Repeated", *more)
    weights, masks = saved(result)
    (block,) = (name for name in masks if name.startswith("blocks"))
    assert int(masks[block].sum()) == 1024  # a quarter of 64 × 64
    assert np.count_nonzero(weights[block]) == 1024
    check_masks(result)
    again = run(tmp_path, "Repeated", *more)
    assert all(row.reused for row in again.rounds)
    check_masks(again)


def test_a_weight_that_is_read_without_calling_its_layer_is_trained_under_its_mask(tmp_path):
    result = run(tmp_path, "Cosine", "strategy=l1", "amount=0.5", "schedule.rounds=2", "finetune.epochs=2")
    weights, masks = saved(result)
    assert int(masks["head.weight"].sum()) == 160
    assert np.count_nonzero(weights["head.weight"]) == 160
    check_masks(result)


@pytest.mark.parametrize(
    ("name", "include"), [("Spectral", "1.weight_orig"), ("WeightNorm", "1.parametrizations.weight.original1")]
)
def test_masks_of_ones_on_a_computed_weight_change_nothing(name, include, tmp_path):
    with_masks = run(tmp_path / "a", name, f"prune.include=[{include},3.weight]", "amount=0", "schedule.rounds=1")
    without = run(tmp_path / "b", name, "amount=0", "schedule.rounds=1", "prune.include=[3.weight]")
    for one, other in zip(with_masks.rounds, without.rounds, strict=True):
        assert (one.test_accuracy, one.test_loss, one.nonzero) == (other.test_accuracy, other.test_loss, other.nonzero)
    pruned = run(tmp_path / "c", name, f"prune.include=[{include}]", "amount=0.5", "schedule.rounds=1")
    weights, masks = saved(pruned)
    assert {key: int(mask.sum()) for key, mask in masks.items()} == {include: 64 * 784 // 2}
    assert np.count_nonzero(weights[include]) == 64 * 784 // 2
    check_masks(pruned)


def test_a_model_that_refuses_to_be_copied_is_run_all_the_same(tmp_path):
    result = run(tmp_path, "KeepsOutput", "schedule.rounds=1")
    check_masks(result)
    rows = table(result.folder / "rounds.csv")
    assert [int(row["nonzero"]) for row in rows] == [asdict(row)["nonzero"] for row in result.rounds]


def test_frozen_numbers_of_eight_bits_are_counted_and_saved(tmp_path):
    result = run(tmp_path, "Float8", "strategy=l1", "amount=0.5", "schedule.rounds=1")
    kept = {name: int((value.float() != 0).sum()) for name, value in result.model.state_dict().items()}
    assert kept["1.weight"] == 784 * 32 // 2
    assert result.rounds[-1].nonzero == sum(kept.values())
    assert prunelab.load(result.folder, trusted=[TOY]).shift.dtype == torch.float8_e4m3fn
