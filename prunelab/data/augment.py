"""Training images that are shifted and mirrored at random, anew in each step."""

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from prunelab.data.dataset import Dataset, Split
from prunelab.errors import ConfigError


@dataclass(frozen=True)
class Augmented(Split):
    """Images whose batches are changed at random; a batch of a slice, which measures, stays as it is.

    Random numbers come from torch's generator of the images' device.

    Attributes:
        inputs: [n, channels, height, width].
        shift: largest number of pixels, ≥ 0, by which an image moves along each axis; each number is as likely. What
            moves in is 0: black, for uint8.
        flip: whether half of the images, drawn at random, are mirrored left to right.
    """

    shift: int = 0
    flip: bool = False

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
    """Return a data set whose training images are shifted or mirrored at random.

    Args:
        shift: in pixels; None: none.
        flip: whether images are mirrored; None: no.

    Raises:
        ConfigError: for inputs that are no images, images no larger than the shift, and a split of a user's class,
            which makes its batches in its own way.
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
