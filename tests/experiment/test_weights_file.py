"""Files of weights, as other tools write them: understood, or answered in one line."""

import argparse
import copy
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from prunelab.errors import ConfigError
from prunelab.experiment.weights_file import load_weights


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.head = nn.Linear(2, width)


def drawn(seed, width=4):
    torch.manual_seed(seed)
    return Net(width)


TRAINED = drawn(1).state_dict()


def prefixed(prefix, state=TRAINED):
    return {f"{prefix}{name}": value for name, value in state.items()}


def pruned_by_torch():
    model = drawn(1)
    prune.l1_unstructured(model.head, "weight", 0.5)
    prune.ln_structured(model.features[0], "weight", 0.5, n=2, dim=0)
    return model.state_dict()


INSIDE = {name.replace("features.", "features._orig_mod.module."): value for name, value in TRAINED.items()}
OTHER = prefixed("", drawn(2).state_dict())
FORMS = {
    "plain": TRAINED,
    "DistributedDataParallel": prefixed("module."),
    "torch.compile": prefixed("_orig_mod."),
    "both": prefixed("module._orig_mod."),
    "both, the other way": prefixed("_orig_mod.module."),
    "of a part": INSIDE,
    "averaged model": {"n_averaged": torch.tensor(3), **prefixed("module.")},
    "state_dict": {"epoch": 3, "best": torch.tensor(0.5), "state_dict": TRAINED},
    "model": {"model": TRAINED, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}},
    "model_state_dict": {"model_state_dict": prefixed("module."), "loss": 0.5},
    "Lightning": {"state_dict": prefixed("model.") | {"loss.weight": torch.ones(4)}, "hyper_parameters": {"lr": 0.1}},
    "Lightning, another name": {"state_dict": prefixed("net._orig_mod.")},
    "average of a library": {"epoch": 3, "model_ema": {"decay": 0.9, "module": prefixed("_orig_mod.")}},
    "a part of a larger one": {"state_dict": prefixed("module.encoder_q.") | {"module.queue": torch.ones(2)}},
    "parameters": {name: nn.Parameter(value, requires_grad=False) for name, value in TRAINED.items()},
    "deep": {"checkpoint": {"run": {"network": prefixed("backbone.module.")}}},
    "with another of the same form": {"ema": OTHER, "model": TRAINED},
    "with a teacher": {"state_dict": prefixed("ema.", OTHER) | prefixed("model.")},
}


def equal(model, state):
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("form", FORMS)
def test_the_weights_are_found_in_a_file_of_torch_save(form, tmp_path):
    torch.save(FORMS[form], tmp_path / "file")
    model = drawn(0)
    stored = load_weights(model, str(tmp_path / "file"))
    assert equal(model, TRAINED)
    assert stored.masks == {}
    assert len(stored.places) == (2 if form.startswith("with a") else 1)


def test_of_two_networks_that_fit_the_places_are_told(tmp_path):
    torch.save(FORMS["with a teacher"], tmp_path / "file")
    assert load_weights(drawn(0), str(tmp_path / "file")).places == ("state_dict model.*", "state_dict ema.*")


@pytest.mark.parametrize("name", ["net.safetensors", "net.bin"])
def test_safetensors_are_known_by_their_content(name, tmp_path):
    save_file(prefixed("module."), tmp_path / name)
    model = drawn(0)
    load_weights(model, str(tmp_path / name))
    assert equal(model, TRAINED)


@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
def test_the_form_of_torch_prune_becomes_weights_and_masks(prefix, tmp_path):
    state = pruned_by_torch()
    torch.save({"state_dict": prefixed(prefix, state)}, tmp_path / "file")
    model = drawn(0)
    masks = load_weights(model, str(tmp_path / "file")).masks
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {"head.weight": 4, "features.0.weight": 9}
    assert torch.equal(model.head.weight, state["head.weight_orig"] * state["head.weight_mask"])
    assert torch.equal(model.head.bias, state["head.bias"])


def test_a_model_that_is_wrapped_itself_takes_both_forms(tmp_path):
    model = nn.DataParallel(drawn(0))
    for state in (TRAINED, prefixed("module.")):
        torch.save(state, tmp_path / "file")
        wrapped = copy.deepcopy(model)
        load_weights(wrapped, str(tmp_path / "file"))
        assert equal(wrapped.module.cpu(), TRAINED)  # it moves to a GPU by itself


def test_a_folder_has_weights_and_masks(tmp_path):
    save_file(TRAINED, tmp_path / "model.safetensors")
    mask = torch.ones(4, 2, dtype=torch.bool)
    mask[0] = False
    save_file({"head.weight": mask, "unknown": mask.clone()}, tmp_path / "masks.safetensors")
    for file in (tmp_path, tmp_path / "model.safetensors"):
        stored = load_weights(drawn(0), str(file))
        assert list(stored.masks) == ["head.weight"]
        assert not stored.layers_removed
    save_file({"head.weight": mask & False}, tmp_path / "masks.safetensors")
    assert load_weights(drawn(0), str(tmp_path)).layers_removed


def refusal(content, folder):
    if content is not None:
        torch.save(content, folder / "file")
    with pytest.raises(ConfigError) as caught:
        load_weights(drawn(0), str(folder / "file"))
    said = str(caught.value).removeprefix(f"model.checkpoint={folder / 'file'}: ")
    assert "\n" not in said
    assert len(said) <= 220
    return said


LONG = {f"blocks.{i}.attention.projection.weight": torch.ones(2) for i in range(100)}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (drawn(1), r"a pickled [\w.]*Net, and only tensors are unpickled \(weights_only\); store model.state_dict\(\)"),
        ({"state_dict": TRAINED, "args": argparse.Namespace(lr=1)}, r"a pickled argparse.Namespace, and only tensors"),
        ({"epoch": 3}, "holds no tensors by name"),
        ([torch.ones(2)], "holds no tensors by name"),
        (prefixed("module.", LONG), r"it lacks features.0.weight, features.0.bias, features.1.weight and 6 more"),
        (TRAINED | LONG, r"the model has no blocks.0.attention.projection.weight, .* and 97 more$"),
        (prefixed("module.", drawn(1, 7).state_dict()), r"it has head.weight \[7, 2\], which must be \[4, 2\]"),
        ({k: v for k, v in TRAINED.items() if k != "head.bias"}, r"it lacks head.bias$"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_other_files_are_answered_in_one_short_line(content, said, tmp_path):
    assert re.search(said, refusal(content, tmp_path))


def test_rubbish_and_empty_folders_are_answered_in_one_short_line(tmp_path):
    (tmp_path / "file").write_bytes(b"PK\x03\x04 and so on")
    assert "no state dict by torch.save" in refusal(None, tmp_path)
    (tmp_path / "file").write_bytes(b"")
    assert "no state dict by torch.save" in refusal(None, tmp_path)
    (tmp_path / "file").unlink()
    (tmp_path / "file").mkdir()
    assert "a folder must have one of model.safetensors" in refusal(None, tmp_path)
