"""The options of data sets: random shifts against copies moved pixel by pixel, and counts of examples and labels."""

from collections import Counter

import pytest
import torch
from user_parts import Noisy

from prunelab.data.dataset import Dataset, Split
from prunelab.data.options import augmented, hold_out, scaled, with_label_noise
from prunelab.errors import ConfigError


def images(count=6, shape=(2, 5, 7), dtype=torch.uint8):
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(1, 256, (count, *shape), generator=generator).to(dtype)  # never 0, which moves in
    return Split(pixels, torch.arange(count), 0.25, 0.5)


def data(train):
    return Dataset(train, images(), images())


def moved(image, down, right):
    """The image moved by so many pixels, one pixel at a time."""
    found, (height, width) = torch.zeros_like(image), image.shape[1:]
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                found[:, y, x] = image[:, y - down, x - right]
    return found


def bytes_of(batch):
    """The pixels that a normalised batch was made of."""
    return (batch * 0.5 + 0.25).mul(255).round().to(torch.uint8)


def drawn(split, times):
    every = torch.arange(len(split))
    return [bytes_of(split.batch(every)[0]) for _ in range(times)]


@pytest.mark.parametrize("shift", [1, 2])
def test_each_shift_along_both_axes_is_as_likely(shift):
    split, counts, side = images(), Counter(), range(-shift, shift + 1)
    torch.manual_seed(0)
    wanted = [{moved(image, y, x).numpy().tobytes(): (y, x) for y in side for x in side} for image in split.inputs]
    for batch in drawn(augmented(data(split), shift, None).train, 300):
        for known, image in zip(wanted, batch, strict=True):
            counts[known[image.numpy().tobytes()]] += 1  # KeyError: not a shift of this image
    expected = 300 * len(split) / len(side) ** 2
    assert len(counts) == len(side) ** 2
    assert all(abs(found - expected) < 6 * expected**0.5 for found in counts.values())


def test_half_of_the_images_are_mirrored():
    split, mirrored = images(), 0
    torch.manual_seed(0)
    for batch in drawn(augmented(data(split), None, True).train, 100):
        for image, found in zip(split.inputs, batch, strict=True):
            assert torch.equal(found, image) or torch.equal(found, image.flip(2))
            mirrored += torch.equal(found, image.flip(2))
    assert 250 < mirrored < 350


def test_labels_and_normalisation_are_those_of_the_split():
    split, index = images(), torch.tensor([4, 0, 4])
    inputs, labels = augmented(data(split), 1, True).train.batch(index)
    assert labels.tolist() == [4, 0, 4]
    assert inputs.dtype == torch.float32
    assert float(inputs.min()) >= -0.25 / 0.5 - 1e-6


def test_what_measures_stays_as_it_is():
    given = data(images())
    found = augmented(given, 2, True)
    assert torch.equal(found.train.batch(slice(0, 6))[0], given.train.batch(slice(0, 6))[0])
    assert found.validation is given.validation
    assert found.test is given.test
    assert augmented(given, None, None) is given
    assert augmented(given, None, False) is given


def test_images_in_floats_keep_their_values():
    split = images(dtype=torch.float32)
    inputs, _ = augmented(data(split), None, True).train.batch(torch.arange(6))
    assert torch.equal(inputs.sum((1, 2, 3)), split.inputs.sum((1, 2, 3)))


@pytest.mark.parametrize(
    ("train", "shift", "flip", "told"),
    [
        (images(shape=(5, 7)), 1, None, "data.shift=1: examples have the shape [5, 7]; must be images"),
        (images(shape=(1, 3, 9)), 3, None, "data.shift=3: examples have the shape [1, 3, 9]; must be images"),
        (images(shape=(4,)), None, True, "data.flip=true: examples have the shape [4]; must be images"),
        (Noisy(*vars(images()).values()), 1, None, "the training split is a Noisy, which makes its own batches"),
    ],
)
def test_what_cannot_be_augmented_is_refused(train, shift, flip, told):
    with pytest.raises(ConfigError) as error:
        augmented(data(train), shift, flip)
    assert told in str(error.value)


def pixels(inputs):
    return Dataset(*(Split(inputs, torch.zeros(3, dtype=torch.long), 0.1307, 0.3081) for _ in range(3)))


def test_pixels_are_between_0_and_1():
    given = pixels(torch.tensor([[0], [51], [255]], dtype=torch.uint8))
    found = scaled(given, "unit")
    for split in (found.train, found.validation, found.test):
        assert split.batch(slice(0, 3))[0].flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert scaled(given, None) is given


def test_inputs_that_are_no_pixels_are_refused():
    with pytest.raises(ConfigError, match=r"data.scale=unit: must be null for inputs in float32"):
        scaled(pixels(torch.rand(3, 1)), "unit")


def numbered(train=150, validation=50, classes=5):
    def split(first, count):
        return Split(torch.arange(first, first + count).view(-1, 1).float(), torch.arange(count) % classes)

    return Dataset(split(0, train), split(train, validation), split(1000, 40))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_the_share_is_held_out_and_no_example_is_lost_or_in_both(share):
    found = hold_out(numbered(), share)
    assert len(found.validation) == round(share * 200)
    both = torch.cat([found.train.inputs, found.validation.inputs]).flatten()
    assert both.sort().values.tolist() == list(range(200))
    assert torch.equal(found.test.inputs, numbered().test.inputs)
    assert torch.bincount(found.validation.labels).tolist() == [round(share * 40)] * 5
    for split in (found.train, found.validation):  # each input keeps its label
        places = split.inputs.flatten().long()
        assert torch.equal(split.labels, torch.where(places < 150, places % 5, (places - 150) % 5))


def test_a_limit_holds_for_both_splits():
    found = hold_out(numbered(), 0.25, 30)
    assert (len(found.train), len(found.validation)) == (30, 30)


def test_without_a_share_the_data_stay():
    given = numbered()
    assert hold_out(given, None) is given
    assert with_label_noise(given, None, 0) is given


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_so_many_labels_are_wrong_by_any_other_class(share):
    given, found = numbered(train=2000), with_label_noise(numbered(train=2000), share, 3)
    wrong = found.train.labels != given.train.labels
    assert int(wrong.sum()) == round(share * 2000)
    assert torch.equal(found.validation.labels, given.validation.labels)
    assert torch.equal(found.test.labels, given.test.labels)
    shifts = torch.bincount((found.train.labels - given.train.labels)[wrong] % 5, minlength=5)
    assert shifts[0] == 0
    assert (shifts[1:] > 0.6 * int(wrong.sum()) / 4).all()


def test_the_seed_decides_which_labels_are_wrong():
    one, same, other = (with_label_noise(numbered(), 0.3, seed).train.labels for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
