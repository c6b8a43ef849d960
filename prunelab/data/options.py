"""The options that every data set has: a share for validation, wrong labels, a scale, and random changes of images."""

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from prunelab.data.dataset import SPLIT_SEED, Dataset, Split, stratified
from prunelab.errors import ConfigError
from prunelab.runtime.seeding import derive


def hold_out(data: Dataset, share: float | None, limit: int | None = None) -> Dataset:
    """Return a data set whose validation split is a share of all training examples, the classes in proportion.

    The training and the validation split are divided anew, in the same way in every experiment, whatever its seed.

    Args:
        share: in (0, 1); None: the data set stays as it is.
        limit: at most this many examples of each of the two splits.
    """
    if share is None:
        return data
    inputs = torch.cat([data.train.inputs, data.validation.inputs])
    labels = torch.cat([data.train.labels, data.validation.labels])
    held_out = stratified(labels, max(1, round(share * len(labels))), SPLIT_SEED)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[held_out] = False

    def split(of: Split, index: Tensor) -> Split:
        return replace(of, inputs=inputs[index[:limit]], labels=labels[index[:limit]])

    return Dataset(split(data.train, rest.nonzero().flatten()), split(data.validation, held_out), data.test)


def with_label_noise(data: Dataset, share: float | None, seed: int) -> Dataset:
    """Return a data set with round(share · n) of the n training labels replaced by another class, each as likely.

    Validation and test labels stay as they are.

    Args:
        share: in (0, 1]; None: none are replaced.
        seed: determines which labels are replaced, and by what.

    Source: the symmetric noise of He et al. 2022, "Sparse double descent", arXiv 2206.08684, section 3.
    """
    if share is None:
        return data
    labels, generator = data.train.labels.clone(), torch.Generator().manual_seed(derive(seed, "label_noise"))
    classes = 1 + max(int(split.labels.max()) for split in (data.train, data.validation, data.test))
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shift = torch.randint(1, max(classes, 2), (len(chosen),), generator=generator)
    labels[chosen] = (labels[chosen] + shift) % classes
    return replace(data, train=replace(data.train, labels=labels))


def scaled(data: Dataset, scale: str | None) -> Dataset:
    """Return a data set whose batches are pixels ÷ 255, as many papers' codes have them.

    Args:
        scale: `unit`, which needs inputs in uint8; None: the data set stays as it is, standardised.
    """
    if scale is None:
        return data
    if data.train.inputs.dtype != torch.uint8:
        kind = str(data.train.inputs.dtype).removeprefix("torch.")
        raise ConfigError(f"data.scale={scale}: must be null for inputs in {kind}; only uint8 has a known range")
    return Dataset(*(replace(split, mean=0.0, std=1.0) for split in (data.train, data.validation, data.test)))


@dataclass(frozen=True)
class Augmented(Split):
    """Images whose batches are changed at random; a batch of a slice, which measures, stays as it is.

    Random numbers come from torch's generator of the images' device. What moves in is 0: black, for uint8.
    """

    shift: int = 0  # largest number of pixels by which an image moves along each axis; each number is as likely
    flip: bool = False  # whether half of the images, drawn at random, are mirrored left to right

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of some examples; see `Split.batch`."""
        if isinstance(index, slice):
            return super().batch(index)
        images = self.inputs.index_select(0, index)
        if self.shift:
            images = shifted(images, self.shift)
        if self.flip:
            mirrored = torch.randint(2, (len(images), 1, 1, 1), device=images.device, dtype=torch.bool)
            images = torch.where(mirrored, images.flip(3), images)
        return replace(self, inputs=images, labels=self.labels[index]).batch(slice(None))


def shifted(images: Tensor, most: int) -> Tensor:
    """Return images, [n, channels, height, width], each moved by up to `most` pixels along each axis."""
    height, width = images.shape[2:]
    views = F.pad(images, (most,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # [n, channels, y, x, height, width]
    down, right = torch.randint(2 * most + 1, (2, len(images)), device=images.device)
    return views[torch.arange(len(images), device=images.device), :, down, right]


def augmented(data: Dataset, shift: int | None, flip: bool | None) -> Dataset:
    """Return a data set whose training images are shifted, by up to `shift` pixels, or mirrored at random.

    ConfigError for inputs that are no images, images no larger than the shift, and a split of a user's class, which
    makes its batches in its own way.
    """
    if not shift and not flip:
        return data
    train, given = data.train, f"data.shift={shift}" if shift else "data.flip=true"
    if type(train) is not Split:
        raise ConfigError(f"{given}: the training split is a {type(train).__name__}, which makes its own batches")
    shape = list(train.inputs.shape[1:])
    if len(shape) != 3 or min(shape[1:]) <= (shift or 0):
        wanted = "must be images, [channels, height, width], larger than the shift"
        raise ConfigError(f"{given}: examples have the shape {shape}; {wanted}")
    own = {field.name: getattr(train, field.name) for field in fields(Split)}
    return replace(data, train=Augmented(**own, shift=shift or 0, flip=bool(flip)))
