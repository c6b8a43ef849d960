"""The classification models of torchvision, by name, untrained."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

# Without these options they return more than logits in training, and their initialisation takes minutes.
PLAIN = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")}


def torchvision_model(name: str = "resnet18", *, shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> nn.Module:
    """Return a model of torchvision, with its own parameter names. Grey images are repeated to three channels.

    Args:
        name: a classification model in `torchvision.models.list_models()`. Most are designed for images of 224 × 224.
        shape: shape of one example, [channels, height, width]; 1 or 3 channels.
        classes: number of classes, ≥ 1.

    Raises:
        ValueError: if there is no such model, or it cannot take such images.
    """
    from torchvision import models  # its import takes seconds

    names = models.list_models(module=models)
    if name not in names:
        near = get_close_matches(name, names, 3, 0.4) or names[:3]
        raise ValueError(f"name={name}: must be a classification model of torchvision, such as {', '.join(near)}")
    if shape[0] not in (1, 3):
        raise ValueError(f"shape={list(shape)}: must have 1 or 3 channels for a model of torchvision")
    options = {"image_size": shape[1]} if name.startswith("vit_") else PLAIN.get(name, {})
    try:
        model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    except AssertionError as error:  # the patch size does not divide the image size
        raise ValueError(f"name={name}: torchvision refuses shape={list(shape)}: {error}") from error
    if shape[0] == 1:
        model.register_forward_pre_hook(_grey_as_colour)
    return model


def _grey_as_colour(module: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    """Repeat grey images to three channels. A wrapper module would change the names of all parameters."""
    x: Tensor = inputs[0]
    return x.expand(-1, 3, -1, -1)  # [n, 1, height, width] → [n, 3, height, width]
