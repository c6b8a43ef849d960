"""Loading trained weights into a model, from `model.checkpoint`."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from prunelab.errors import ConfigError, one_line
from prunelab.stages.checkpoint import UNREADABLE


def load_checkpoint(model: nn.Module, file: str) -> None:
    """Load trained weights: a .safetensors file, or a state dict written by `torch.save`.

    Raises:
        ConfigError: if the file cannot be read or does not fit the model. Nothing but tensors is ever unpickled.
    """
    try:
        if Path(file).suffix == ".safetensors":
            state = load_file(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a file that is no state dict; it is refused just below
                state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except (*UNREADABLE, OSError, AttributeError) as error:
        raise ConfigError(f"model.checkpoint={file}: cannot be loaded into this model: {one_line(error)}") from error
