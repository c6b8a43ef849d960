"""torchvision's classification networks, by name, untrained."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

# These would give more than logits in training, and initialise for minutes.
PLAIN = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")}


def torchvision_model(name: str = "resnet18", *, shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> nn.Module:
    """A network of torchvision's, with its own parameter names. A grey image goes in as three equal channels.

    Args:
        name: as `torchvision.models.list_models` has it, classification only. Most are meant for images of 224 × 224.
        shape: [channels, height, width] of one example; 1 or 3 channels.
        classes: at least 1.

    Raises:
        ValueError: for a name that there is not, another number of channels, or an image that the network cannot take.
    """
    from torchvision import models  # only here: it takes seconds

    names = models.list_models(module=models)
    if name not in names:
        near = get_close_matches(name, names, 3, 0.4) or names[:3]
        raise ValueError(f"name={name}: torchvision has no such model; near it are {', '.join(near)}")
    if shape[0] not in (1, 3):
        raise ValueError(f"shape={list(shape)}: torchvision's models take 1 or 3 channels")
    options = {"image_size": shape[1]} if name.startswith("vit_") else PLAIN.get(name, {})
    try:
        model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    except AssertionError as error:  # a transformer's patches that do not divide the image
        raise ValueError(f"name={name}: torchvision refuses shape={list(shape)}: {error}") from error
    if shape[0] == 1:
        model.register_forward_pre_hook(_grey_as_colour)
    return model


def _grey_as_colour(module: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    """A hook, not a module around the model, which would prefix the names of all parameters."""
    x: Tensor = inputs[0]
    return x.expand(-1, 3, -1, -1)  # [n, 1, height, width] → [n, 3, height, width]
