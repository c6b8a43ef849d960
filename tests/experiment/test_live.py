"""Experiments on live objects: a module and tensors of the user's in the place of the config's."""

import numpy as np
import pytest
import torch
from conftest import composed, overrides, undisturbed_and_resumed
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

import prunelab
from prunelab.config.resolve import resolve
from prunelab.data.dataset import Dataset, Split
from prunelab.data.live import as_dataset
from prunelab.experiment.bench import Bench, class_count
from prunelab.experiment.round import init
from prunelab.models.lenet import LeNet

FEW = ("schedule.rounds=2", "amount=0.5", "train.batch_size=16")


def tensors(seed=0):
    """Three classes of vectors of 12 numbers: (train, test)."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, 12, generator=draw)

    def split(count):
        labels = torch.arange(count) % 3
        return centres[labels] + torch.randn(count, 12, generator=draw), labels

    return split(90), split(30)


def module():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Dropout(0.1), nn.Linear(20, 3))


def run(folder, *more, model=None, data=None, where=None):
    config = composed(folder, *FEW, *more)
    return prunelab.run(config, where, model=model or module(), data=data or tensors())


def test_a_live_module_and_tensors_are_trained_and_pruned(tmp_path):
    mine = module()
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    result = run(tmp_path, "train.epochs=20", "optimizer.lr=0.01", model=mine)
    assert all(torch.equal(before[name], value) for name, value in mine.state_dict().items())  # it is copied
    assert result.model is not mine
    assert result.rounds[0].test_accuracy > 0.6
    assert result.rounds[-1].parameters == 12 * 20 + 20 + 20 * 3 + 3
    weights, masks = load_file(result.folder / "model.safetensors"), load_file(result.folder / "masks.safetensors")
    assert set(masks) == {"0.weight", "3.weight"}
    assert sum(int(mask.sum()) for mask in masks.values()) == 75  # 300 → 150 → 75
    assert all(torch.equal(weights[name] != 0, mask) for name, mask in masks.items())
    assert all(torch.equal(result.model.state_dict()[name], value) for name, value in weights.items())


def test_stages_are_reused_and_named_by_content(tmp_path):
    first, again = run(tmp_path), run(tmp_path)
    assert [row.reused for row in first.rounds] == [False] * 3
    assert [row.reused for row in again.rounds] == [True] * 3
    other_data = run(tmp_path, data=tensors(1))
    assert [row.reused for row in other_data.rounds] == [False] * 3
    other_model = module()
    nn.init.constant_(other_model[3].bias, 0.25)
    assert [row.reused for row in run(tmp_path, model=other_model).rounds] == [False] * 3
    assert all(torch.equal(first.model.state_dict()[n], v) for n, v in again.model.state_dict().items())


@pytest.mark.parametrize("batch", [2, 8, 13])
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path, batch):
    expected, result = undisturbed_and_resumed(lambda folder: run(folder), tmp_path, batch)
    for one, other in zip(expected.rounds, result.rounds, strict=True):
        assert (one.test_loss, one.nonzero, one.train_loss) == (other.test_loss, other.nonzero, other.train_loss)
    assert all(torch.equal(expected.model.state_dict()[n], v) for n, v in result.model.state_dict().items())


def test_a_live_module_and_a_checkpoint_of_its_tensors_begin_with_the_same_stage(tmp_path):
    torch.manual_seed(9)
    mine = LeNet()
    save_file(mine.state_dict(), tmp_path / "net.safetensors")
    device = torch.device("cpu")
    live = Bench(resolve(prunelab.compose("data=synthetic")), device, model=mine)
    file = Bench(resolve(prunelab.compose("data=synthetic", f"model.checkpoint={tmp_path}/net.safetensors")), device)
    drawn = Bench(resolve(prunelab.compose("data=synthetic", "seed=9")), device)
    assert init(live).name == init(file).name != init(drawn).name


def test_a_config_s_model_takes_the_shape_and_classes_of_live_data(tmp_path):
    images = torch.rand(60, 3, 16, 16), torch.arange(60) % 4
    config = prunelab.compose(
        *overrides(tmp_path, "model=vit_tiny", "model.dim=16", "model.depth=1", "schedule.rounds=1")
    )
    result = prunelab.run(config, data=(images, images))
    assert result.model(images[0]).shape == (60, 4)


# Data


def test_data_in_any_form_is_the_same_data():
    train, test = tensors()
    pairs = as_dataset((train, test))
    assert len(pairs.train) == 81  # a tenth is held out, in equal proportions
    assert torch.bincount(pairs.validation.labels).tolist() == [3, 3, 3]
    sets = as_dataset((TensorDataset(*train), TensorDataset(*test)))
    splits = as_dataset([Split(*train), Split(*test)])
    for other in (sets, splits):
        for one, same in ((pairs.train, other.train), (pairs.validation, other.validation), (pairs.test, other.test)):
            assert torch.equal(one.inputs, same.inputs)
            assert torch.equal(one.labels, same.labels)
    three = as_dataset((train, test, test))
    assert isinstance(three, Dataset)
    again = as_dataset(three)
    assert all(getattr(again, name) is split for name, split in vars(three).items())
    assert len(three.train) == 90


class Pairs(TorchDataset):
    """Examples one by one, as NumPy arrays and plain numbers."""

    def __init__(self, inputs, labels):
        self.inputs, self.labels = inputs.numpy().astype(np.float64), labels.tolist()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.inputs[index], self.labels[index]


class Triples(Pairs):
    def __init__(self):
        super().__init__(*tensors()[0])

    def __getitem__(self, index):
        return *super().__getitem__(index), index


def arrays(inputs, labels):
    return inputs.numpy().astype(np.float64), labels.numpy().astype(np.int32)


def reversed_arrays(inputs, labels):
    """Views that torch cannot take as they are: in reversed order of memory, and read-only."""
    found = [part.numpy()[::-1].copy()[::-1] for part in (inputs, labels)]
    for part in found:
        part.flags.writeable = False
    return tuple(found)


@pytest.mark.parametrize("form", [Pairs, arrays, reversed_arrays, TensorDataset, Split, lambda x, y: [x, y]])
def test_one_two_or_three_sets_in_each_form(form):
    train, test = tensors()
    for given, same in (
        (form(*train), train),
        ((form(*train), form(*test)), (train, test)),
        ([form(*train), form(*test), form(*test)], (train, test, test)),
    ):
        found, wanted = as_dataset(given), as_dataset(same)
        for name in ("train", "validation", "test"):
            one, other = getattr(found, name), getattr(wanted, name)
            assert (one.inputs.dtype, one.labels.dtype) == (torch.float32, torch.int64)
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.labels, other.labels)


def test_the_splits_of_one_set_are_disjoint_and_complete():
    labels = torch.arange(100) % 3
    found = as_dataset((torch.arange(100).view(100, 1).float(), labels))
    splits = [found.train, found.validation, found.test]
    assert [len(split) for split in splits] == [81, 9, 10]
    assert torch.cat([split.inputs for split in splits]).flatten().sort()[0].tolist() == list(range(100))
    for split in splits:
        assert torch.equal(split.labels, labels[split.inputs.flatten().long()])


def test_arrays_of_the_user_s_stay_as_they_are_and_are_not_shared():
    inputs, labels = np.zeros((20, 2)), np.arange(20) % 2
    found = as_dataset((inputs, labels))
    inputs += 1
    assert not found.train.inputs.any()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (3, r"data=int: must be a torch Dataset, \(inputs, labels\), \(train, test\)"),
        ((tensors()[0],), r"data=tuple: must be"),
        (([1, 2], tensors()[1]), r"data=list: must be a torch Dataset, a pair of tensors or arrays"),
        (((torch.rand(4, 2), torch.rand(4)), tensors()[1]), r"labels are torch.float32 \[4\]; must be whole numbers"),
        (((torch.rand(4, 2), torch.zeros(4, 1).long()), tensors()[1]), r"labels are torch.int64 \[4, 1\]"),
        (((torch.rand(4, 2), torch.arange(4) - 1), tensors()[1]), r"labels begin at -1; must be 0, 1, 2"),
        ((TensorDataset(torch.rand(4, 2)), tensors()[1]), r"data=TensorDataset: must give pairs"),
        (Triples(), r"data=Triples: must give pairs .*too many values to unpack"),
        (DataLoader(TensorDataset(*tensors()[0])), r"data=DataLoader: must be a torch Dataset"),
        ((np.array(["a", "b"]), np.array([0, 1])), r"data=tuple: must be arrays of numbers"),
        ((torch.eye(4).to_sparse(), torch.arange(4)), r"inputs are torch.sparse_coo; must be dense"),
        ((np.ones((4, 2)), np.ones(4)), r"labels are torch.float32 \[4\]; must be whole numbers"),
        ((np.ones((4, 2)), np.arange(3)), r"labels are torch.int64 \[3\]; must be whole numbers \[4\]"),
    ],
)
def test_other_data_is_refused_in_one_line(data, said):
    with pytest.raises(prunelab.ConfigError, match=said) as error:
        as_dataset(data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint64, np.int16, np.bool_])
@pytest.mark.parametrize(
    "form",
    [
        lambda x, y: (x, y),
        lambda x, y: TensorDataset(*map(torch.from_numpy, (x, y))),
        lambda x, y: Subset(TensorDataset(*map(torch.from_numpy, (x, y))), range(10, 40)),
        lambda x, y: ConcatDataset([TensorDataset(*map(torch.from_numpy, (x, y)))] * 2),
    ],
)
def test_whole_labels_of_any_type_in_any_form(form, kind):
    found = as_dataset(form(np.arange(40, dtype=np.float32), (np.arange(40) % 2).astype(kind))).train
    assert found.labels.dtype == torch.int64
    assert torch.equal(found.labels, found.inputs.long() % 2)


def test_held_out_examples_are_normalised_as_the_others():
    images, labels = torch.randint(256, (60, 1, 4, 4), dtype=torch.uint8), torch.arange(60) % 3
    split = Split(images, labels, 0.5, torch.full((1, 1, 1), 0.25))
    data = as_dataset((split, split))
    for part in (data.train, data.validation):
        inputs, _ = part.batch(slice(None))
        assert torch.allclose(inputs, (part.inputs / 255 - 0.5) / 0.25, atol=1e-5)


def test_classes_that_only_the_test_split_has_count():
    train, test = tensors()
    assert class_count(as_dataset((train, (test[0], test[1] + 4)))) == 7


def test_what_only_a_config_can_rebuild_is_refused_in_one_line(tmp_path):
    result = run(tmp_path)
    with pytest.raises(prunelab.ConfigError, match=r"live module \(Sequential\).*load_state_dict"):
        prunelab.load(result.folder)
    fresh = module()
    fresh.load_state_dict(load_file(result.folder / "model.safetensors"))
    assert all(torch.equal(value, result.model.state_dict()[name]) for name, value in fresh.state_dict().items())
    for asked in ("export=[onnx]", "quantize=int8_weight"):
        with pytest.raises(prunelab.ConfigError, match=r"prunelab\.export"):
            run(tmp_path, asked)
