"""Another share for validation, and wrong labels: counts, no example lost or doubled, the test split untouched."""

import pytest
import torch

from prunelab.data.dataset import Dataset, Split
from prunelab.data.label_noise import with_label_noise
from prunelab.data.validation import hold_out


def data(train=150, validation=50, classes=5):
    def split(first, count):
        return Split(torch.arange(first, first + count).view(-1, 1).float(), torch.arange(count) % classes)

    return Dataset(split(0, train), split(train, validation), split(1000, 40))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_the_share_is_held_out_and_no_example_is_lost_or_in_both(share):
    found = hold_out(data(), share)
    assert len(found.validation) == round(share * 200)
    both = torch.cat([found.train.inputs, found.validation.inputs]).flatten()
    assert both.sort().values.tolist() == list(range(200))
    assert torch.equal(found.test.inputs, data().test.inputs)
    assert torch.bincount(found.validation.labels).tolist() == [round(share * 40)] * 5
    for split in (found.train, found.validation):  # each input keeps its label
        places = split.inputs.flatten().long()
        assert torch.equal(split.labels, torch.where(places < 150, places % 5, (places - 150) % 5))


def test_a_limit_holds_for_both_splits():
    found = hold_out(data(), 0.25, 30)
    assert (len(found.train), len(found.validation)) == (30, 30)


def test_without_a_share_the_data_stay():
    given = data()
    assert hold_out(given, None) is given
    assert with_label_noise(given, None, 0) is given


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_so_many_labels_are_wrong_by_any_other_class(share):
    given, found = data(train=2000), with_label_noise(data(train=2000), share, 3)
    wrong = found.train.labels != given.train.labels
    assert int(wrong.sum()) == round(share * 2000)
    assert torch.equal(found.validation.labels, given.validation.labels)
    assert torch.equal(found.test.labels, given.test.labels)
    shifts = torch.bincount((found.train.labels - given.train.labels)[wrong] % 5, minlength=5)
    assert shifts[0] == 0
    assert (shifts[1:] > 0.6 * int(wrong.sum()) / 4).all()


def test_the_seed_decides_which_labels_are_wrong():
    one, same, other = (with_label_noise(data(), 0.3, seed).train.labels for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
