"""What one run leaves in its folder: tables, summary, tensors, TensorBoard."""

from __future__ import annotations

import io
import json
import platform
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import composed, overrides, run, table
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import prunelab
from prunelab.config.check import plain
from prunelab.data.mnist import mnist
from prunelab.models.lenet import LeNet
from prunelab.pruning.masks import Masks
from prunelab.records import EpochRecord, RoundRecord, column
from prunelab.tracking import csv_files, tensorboard
from prunelab.tracking.accuracy_figure import accuracy_figure
from prunelab.tracking.csv_files import FILES
from prunelab.tracking.tensorboard import mask_image, surviving_weights
from prunelab.training.loop import evaluate

ROUNDS = (
    "round,amount,sparsity,sparsity_total,nonzero,parameters,compression_ratio,macs,macs_nonzero,theoretical_speedup,"
    "train_loss,val_accuracy,test_accuracy,test_loss,epochs,seconds,stage,reused,early_stop,"
    "early_stop_accuracy,best_test_accuracy"
)
TENSORS = ("conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "fc3.weight")
RUN = ("schedule.rounds=2", "amount=0.3", "finetune.epochs=2", "seed=3")
LAST = 2  # round


@pytest.fixture(autouse=True, scope="module")
def _pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorboard, "accuracy_figure", accuracy_figure)
        patch.setattr(tensorboard, "mask_image", mask_image)
        yield


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return run(tmp_path_factory.mktemp("tracking"), *RUN)


@pytest.fixture(scope="module")
def folder(result) -> Path:
    return result.folder


@pytest.fixture(scope="module")
def summary(folder) -> dict:
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def board(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sizes = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}
    return EventAccumulator(str(folder), size_guidance=sizes).Reload()


# Tables


def test_rounds_csv(folder, result):
    text = (folder / "rounds.csv").read_text().splitlines()
    assert text[0] == f"{ROUNDS},seed,strategy,config"
    rows = table(folder / "rounds.csv")
    assert [row["round"] for row in rows] == ["0", "1", "2"]
    assert [row["amount"] for row in rows] == ["", "0.3", "0.3"]
    assert [row["epochs"] for row in rows] == ["1", "2", "2"]
    assert [row["reused"] for row in rows] == ["false"] * 3
    assert [(row["seed"], row["strategy"]) for row in rows] == [("3", "global")] * 3
    assert len({row["stage"] for row in rows}) == 3
    assert {row["config"] for row in rows} == {json.loads((folder / "summary.json").read_text())["digest"]}
    for row, returned in zip(rows, result.rounds, strict=True):
        for key in ROUNDS.split(","):
            value = getattr(returned, key)
            assert row[key] == ("" if value is None else str(value).lower() if isinstance(value, bool) else str(value))


def test_the_figures_of_a_round_fit_together(folder):
    left, prunable, parameters = 59_838, 59_838, 60_074
    for row in table(folder / "rounds.csv"):
        left -= round(float(row["amount"] or 0) * left)
        assert int(row["parameters"]) == parameters
        assert int(row["nonzero"]) == left + parameters - prunable  # no bias is pruned, and none is zero
        assert float(row["sparsity"]) == pytest.approx(1 - left / prunable, abs=1e-12)
        assert float(row["sparsity_total"]) == pytest.approx(1 - int(row["nonzero"]) / parameters, abs=1e-12)
        assert float(row["compression_ratio"]) == pytest.approx(parameters / int(row["nonzero"]))
        assert float(row["theoretical_speedup"]) == pytest.approx(int(row["macs"]) / int(row["macs_nonzero"]))
        assert int(row["macs"]) == 54 * 26 * 26 + 864 * 11 * 11 + 400 * 120 + 120 * 84 + 84 * 10


def test_epochs_csv(folder):
    rows = table(folder / "epochs.csv")
    assert [(row["round"], row["epoch"]) for row in rows] == [
        ("0", "1"),
        ("1", "1"),
        ("1", "2"),
        ("2", "1"),
        ("2", "2"),
    ]
    assert all(float(row["train_loss"]) > 0 and 0 <= float(row["val_accuracy"]) <= 1 for row in rows)
    rounds = {row["round"]: row for row in table(folder / "rounds.csv")}
    for row in rows:
        assert row["stage"] == rounds[row["round"]]["stage"]
    for round, last in (("0", rows[0]), ("1", rows[2]), ("2", rows[4])):  # the last epoch is what is reported
        assert rounds[round]["val_accuracy"] == last["val_accuracy"]
        assert rounds[round]["train_loss"] == last["train_loss"]


def test_layers_csv(folder):
    rows = table(folder / "layers.csv")
    assert [(row["round"], row["tensor"]) for row in rows] == [(str(r), name) for r in range(3) for name in TENSORS]
    shapes = ["6x1x3x3", "16x6x3x3", "120x400", "84x120", "10x84"]
    assert [row["shape"] for row in rows] == shapes * 3
    masks = load_file(folder / "masks.safetensors")
    for row in rows:
        assert float(row["sparsity"]) == pytest.approx(1 - int(row["nonzero"]) / masks[row["tensor"]].numel())
        if row["round"] == "0":
            assert row["sparsity"] == "0.0"
        if row["round"] == str(LAST):
            assert int(row["nonzero"]) == int(masks[row["tensor"]].sum())


# The summary


def test_summary(summary, result):
    assert summary["status"] == "completed"
    assert summary["seed"] == 3
    assert summary["device"] in ("cpu", "cuda", "cuda:0", "mps")
    assert summary["threads"] == 1
    assert summary["command"] == ""  # the overrides of a composed config are not known
    assert summary["seconds"] > 0
    for name in ("prunelab", "torch", "hydra-core", "omegaconf", "tensorboard", "numpy", "python"):
        assert summary["versions"][name]
    assert summary["versions"]["torch"] == torch.__version__.split("+")[0]
    assert summary["versions"]["python"] == platform.python_version()
    for name, row in (("dense", result.rounds[0]), ("final", result.rounds[-1])):
        assert summary[name] == json.loads(json.dumps(asdict(row)))
        assert set(ROUNDS.split(",")) <= set(summary[name])


def test_the_config_in_the_summary_can_be_run_again(summary, folder):
    config = summary["config"]
    assert (config["amount"], config["schedule"]["rounds"], config["finetune"]["epochs"]) == (0.3, 2, 2)
    assert config["data"]["limit"] == 300
    assert config["strategy"]["name"] == "global"
    assert config["allocation"]["_target_"] == "prunelab.pruning.allocation.global_.Global"
    again = prunelab.compose(*overrides(folder.parents[2], *RUN))
    assert plain(again) == config


# Tensors


def test_the_saved_model_is_the_final_one(folder, result):
    saved, masks = load_file(folder / "model.safetensors"), load_file(folder / "masks.safetensors")
    model = LeNet()
    model.load_state_dict(saved, strict=True)
    assert set(masks) == set(TENSORS)
    for name, mask in masks.items():
        assert mask.dtype == torch.bool
        assert torch.equal(saved[name] == 0, ~mask)
    for name, value in result.model.state_dict().items():
        assert torch.equal(value.cpu(), saved[name])


def test_the_saved_model_gives_the_reported_accuracy(folder):
    model = LeNet()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    accuracy, loss = evaluate(model, mnist(limit=300).test)
    final = table(folder / "rounds.csv")[-1]
    assert float(final["test_accuracy"]) == accuracy
    assert float(final["test_loss"]) == pytest.approx(loss, rel=1e-5)


# TensorBoard


def test_one_event_file_and_no_sub_runs(folder):
    events = list(folder.rglob("events.out.tfevents.*"))
    assert [path.parent for path in events] == [folder]
    assert not [path for path in folder.iterdir() if path.is_dir() and path.name != ".hydra"]


def test_scalars(board, folder):
    rounds, epochs = table(folder / "rounds.csv"), table(folder / "epochs.csv")
    scalars = {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    for key in ("train_loss", "val_loss", "val_accuracy", "lr"):
        expected = [(step, float(row[key])) for step, row in enumerate(epochs, 1)]
        assert scalars[f"epoch/{key}"] == [(step, pytest.approx(value)) for step, value in expected]
    for key in ("sparsity", "compression_ratio", "val_accuracy", "test_accuracy", "test_loss"):
        expected = [(int(row["round"]), float(row[key])) for row in rounds]
        assert scalars[f"round/{key}"] == [(step, pytest.approx(value)) for step, value in expected]
    for row in table(folder / "layers.csv"):
        step, value = scalars[f"layer_sparsity/{row['tensor']}"][int(row["round"])]
        assert (step, value) == (int(row["round"]), pytest.approx(float(row["sparsity"])))


def test_accuracy_over_sparsity_has_basis_points_as_steps(board, folder):
    rounds = table(folder / "rounds.csv")
    steps = [round(10_000 * float(row["sparsity"])) for row in rounds]
    assert steps == [0, 3000, 5100]
    for key in ("test_accuracy", "val_accuracy"):
        found = board.Scalars(f"over_sparsity/{key}")
        assert [event.step for event in found] == steps
        assert [event.value for event in found] == [pytest.approx(float(row[key])) for row in rounds]


def test_images_and_histograms_by_round(board):
    tags = board.Tags()
    assert set(tags["images"]) == {"accuracy_over_sparsity", *(f"mask/{name}" for name in TENSORS)}
    assert set(tags["histograms"]) == {f"surviving/{name}" for name in TENSORS}
    for name in TENSORS:
        assert [image.step for image in board.Images(f"mask/{name}")] == [0, 1, 2]
        assert [item.step for item in board.Histograms(f"surviving/{name}")] == [0, 1, 2]


def test_a_mask_is_stored_as_the_picture_that_it_is(board, folder):
    masks = load_file(folder / "masks.safetensors")
    for name in TENSORS:
        found = Image.open(io.BytesIO(board.Images(f"mask/{name}")[-1].encoded_image_string))
        assert found.mode == "L"
        assert np.array_equal(np.asarray(found), mask_image(masks[name]).numpy())


def test_histograms_are_of_the_surviving_weights(board, folder):
    last = {row["tensor"]: int(row["nonzero"]) for row in table(folder / "layers.csv") if row["round"] == str(LAST)}
    for name, nonzero in last.items():
        assert board.Histograms(f"surviving/{name}")[-1].histogram_value.num == nonzero


def test_texts(board, summary):
    tags = board.Tags()["tensors"]
    (config,) = board.Tensors(next(tag for tag in tags if tag.split("/")[0] == "config"))
    shown = config.tensor_proto.string_val[0].decode()
    assert json.loads(shown.strip("`").removeprefix("json")) == summary["config"]
    (rounds,) = board.Tensors(next(tag for tag in tags if tag.split("/")[0] == "rounds"))
    lines = rounds.tensor_proto.string_val[0].decode().splitlines()
    assert len(lines) == 2 + 3
    assert "test_accuracy" in lines[0]
    (cost,) = board.Tensors(next(tag for tag in tags if tag.split("/")[0] == "cost"))
    shown = cost.tensor_proto.string_val[0].decode()
    assert shown.startswith("|  | parameters | nonzero | MACs | nonzero MACs |")
    cells = [line.split(" | ") for line in shown.splitlines()[2:4]]
    assert [(row[0], row[1], row[4]) for row in cells] == [
        ("| dense (torch)", "60,074", f"{summary['dense']['macs']:,}"),
        ("| masked (torch)", "60,074", f"{summary['final']['macs_nonzero']:,}"),
    ]
    assert shown.endswith("masked (torch): no speed-up: the same multiply-adds are done, those on zeros too")


def test_hparams_are_in_the_same_run(board, folder):
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = board.PluginTagToContent("hparams")
    assert set(content) == {
        "_hparams_/experiment",
        "_hparams_/session_start_info",
        "_hparams_/session_end_info",
    }
    started = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info.hparams
    assert started["seed"].number_value == 3
    assert started["amount"].number_value == 0.3
    assert started["schedule.rounds"].number_value == 2
    experiment = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    metrics = {info.name.tag for info in experiment.metric_infos}
    final = table(folder / "rounds.csv")[-1]
    assert "final/test_accuracy" in metrics
    for tag in metrics:
        (event,) = board.Scalars(tag)
        assert event.value == pytest.approx(float(final[tag.removeprefix("final/")]))


# Reused stages


def test_a_run_of_reused_stages_is_complete_by_itself(folder, result, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    root = folder.parents[2]
    config = composed(root, *RUN)
    again = prunelab.run(config, tmp_path / "again").folder
    for name in ("rounds.csv", "epochs.csv"):
        rows = table(again / name)
        assert [row["reused"] for row in rows] == ["true"] * len(rows)
        assert [{**row, "reused": "false"} for row in rows] == table(folder / name)
    assert table(again / "layers.csv") == table(folder / "layers.csv")
    for name in ("model.safetensors", "masks.safetensors"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    boards = [EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload() for path in (folder, again)]
    assert boards[0].Tags() == boards[1].Tags()
    for tag in boards[0].Tags()["scalars"]:
        one, other = ([(event.step, event.value) for event in board.Scalars(tag)] for board in boards)
        assert one == other
    # A run in the same folder replaces what is there.
    prunelab.run(config, again)
    assert len(table(again / "rounds.csv")) == 3
    assert len(list(again.glob("events.out.tfevents.*"))) == 1
    shutil.rmtree(again)


# Masks as images


def test_mask_image_of_a_filter_bank():
    """[2, 2, 1, 2]: a row an output channel, a tile an input channel; here the second filter is dead."""
    mask = torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])
    image = mask_image(mask)
    scale, gap = 64, 16  # 256 pixels over 4 columns; a quarter of a weight between the tiles
    assert image.dtype == torch.uint8
    assert image.shape == (2 * scale + gap, 4 * scale + gap)
    centres = [32, 96, 176, 240]  # of the four weights; the gap lies between the second and the third
    assert image[32, centres].tolist() == [255, 0, 255, 255]
    assert image[scale + gap + 32, centres].tolist() == [0, 0, 0, 0]
    assert set(image[:, 2 * scale : 2 * scale + gap].unique().tolist()) == {96}
    assert set(image[scale : scale + gap].unique().tolist()) == {96}


def test_mask_image_of_filters_with_one_input_channel_stand_side_by_side():
    mask = torch.stack([torch.ones(1, 3, 3), torch.zeros(1, 3, 3)])  # [2, 1, 3, 3]
    image = mask_image(mask)
    assert image.shape[1] > 2 * image.shape[0] - 20
    assert image[60, 60] == 255
    assert image[60, -60] == 0


def test_mask_image_of_a_vector_is_one_row():
    image = mask_image(torch.tensor([True, False, True]))
    assert image.shape == (85, 255)
    assert image[0, ::85].tolist() == [255, 0, 255]


def test_mask_image_of_a_matrix_is_itself():
    mask = torch.rand(300, 70) < 0.5
    assert torch.equal(mask_image(mask), mask.to(torch.uint8) * 255)


@pytest.mark.parametrize("shape", [(1,), (4, 3, 5), (2, 3, 2, 2, 2), (16, 6, 3, 3)])
def test_mask_image_of_any_shape(shape):
    image = mask_image(torch.ones(shape))
    assert image.dim() == 2
    assert set(image.unique().tolist()) <= {96, 255}


# Columns and tags come from the records


def test_the_columns_of_each_table_are_the_fields_of_its_record(folder):
    for kind, name in FILES.items():
        heads = (folder / name).read_text().splitlines()[0].split(",")
        own = [f.name for f in fields(kind) if f.metadata.get("csv", True)]
        assert heads == [*own, *(("seed", "strategy") if kind is RoundRecord else ()), "config"], name


def test_what_distinguishes_a_run_is_in_every_row_of_its_rounds(tmp_path):
    more = ("strategy=l1", "amount=0.5", "+optimizer.eps=1e-9", "schedule.rounds=1")
    rows = table(prunelab.run(*overrides(tmp_path, *more), quiet=True).folder / "rounds.csv")
    assert [row["amount"] for row in rows] == ["", "0.5"]  # of the round
    assert [row["config.amount"] for row in rows] == ["0.5", "0.5"]  # of the run
    assert [(row["strategy"], row["optimizer.eps"], row["seed"]) for row in rows] == [("l1", "1e-9", "0")] * 2


def test_a_field_that_is_added_to_a_record_becomes_a_column_and_a_curve(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    @dataclass(frozen=True)
    class Longer(EpochRecord):
        norm: float = column("Norm of the weights", tag=True, default=0.5)

    monkeypatch.setattr(csv_files, "FILES", {Longer: "epochs.csv"})
    monkeypatch.setattr(tensorboard, "EpochRecord", Longer)
    row = Longer(1, 2, 0.5, 0.5, 0.5, 1, 0.1, 1.0, norm=2.5)
    tables, board = (
        csv_files.CsvFiles(tmp_path, "digest", {}),
        tensorboard.TensorBoard(tmp_path, {"seed": 0, "strategy": "l1", "amount": 1}),
    )
    tables.write(row)
    board.epoch(row)
    tables.close()
    board.close()
    assert table(tmp_path / "epochs.csv")[0]["norm"] == "2.5"
    scalars = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in scalars.Scalars("epoch/norm")] == [2.5]


def test_the_curves_are_the_tagged_fields(board):
    tags = {tag for tag in board.Tags()["scalars"] if tag.startswith(("epoch/", "round/"))}
    expected = {f"epoch/{f.name}" for f in fields(EpochRecord) if f.metadata.get("tag")}
    assert tags == expected | {f"round/{f.name}" for f in fields(RoundRecord) if f.metadata.get("tag")}


# Large tensors


@pytest.mark.parametrize("shape", [(600, 1024), (512, 512, 3, 3), (2048, 512, 1, 1), (3_000_000,)])
def test_the_image_of_a_large_mask_is_reduced_to_shares(shape):
    mask = torch.ones(shape)
    mask[: shape[0] // 4] = 0  # the first quarter of the outputs is pruned
    image = mask_image(mask)
    assert image.dtype == torch.uint8
    assert max(image.shape) <= 256
    assert float(image.float().mean()) == pytest.approx(0.75 * 255, abs=1)
    quarter = image[: image.shape[0] // 4] if len(shape) > 1 else image[:, : image.shape[1] // 4]
    assert int(quarter.max()) == 0


def test_the_histogram_of_a_large_tensor_is_of_a_sample_of_its_surviving_weights():
    model = nn.Linear(2000, 1500, bias=False)
    masks = Masks(model)
    masks.add([(model, "weight")])
    (item,) = masks
    size = item.parameter.detach().abs()
    item.set(size > size.median())
    masks.apply()
    found = surviving_weights(item)
    assert (found != 0).all()
    assert 100_000 < found.numel() < 150_000  # every twelfth of 3,000,000, half of which survive
    survivors = item.parameter.detach()[item.kept]
    assert float(found.std()) == pytest.approx(float(survivors.std()), rel=0.01)


def test_a_mask_of_a_single_number_is_an_image():
    assert mask_image(torch.tensor(1.0)).tolist() == [[255] * 256] * 256


def test_weights_come_before_vectors(tmp_path, result):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = nn.Linear(4, 3)
    masks = Masks(model)
    masks.add([(model, "weight"), (model, "bias")])
    board = tensorboard.TensorBoard(tmp_path, {"seed": 0, "strategy": "l1", "amount": 1})
    board.round(result.rounds[0], [], masks)
    board.finish([result.rounds[0]], 0, picture=False)
    board.close()
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()
    assert sorted(tags["images"]) == ["mask/weight", "mask_of_vectors/bias"]
    assert sorted(tags["histograms"]) == ["surviving/weight", "surviving_of_vectors/bias"]


def test_charts_name_their_axes(board):
    metadata = board.SummaryMetadata("over_sparsity/test_accuracy")
    assert "basis points" in metadata.summary_description
    assert "epochs" in board.SummaryMetadata("epoch/val_accuracy").summary_description
    assert "rounds" in board.SummaryMetadata("round/test_accuracy").summary_description
