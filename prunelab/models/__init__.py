"""Plain nn.Modules, which know nothing of masks; and loading weights that were trained elsewhere."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from prunelab.config import ConfigError

# What a file with strange content may raise while it is read.
UNREADABLE = (
    OSError,
    SafetensorError,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
)


def load(model: nn.Module, file: str) -> None:
    """Loads a trained network's weights: a .safetensors file, or a state dict written by `torch.save`.

    Raises:
        ConfigError: if the file cannot be read, or does not fit the model. Nothing but tensors is ever unpickled.
    """
    try:
        if Path(file).suffix == ".safetensors":
            state = load_file(file)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what is no state dict; it is refused just below
                state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except UNREADABLE as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"model.checkpoint={file}: cannot be loaded into this model: {why}") from error
