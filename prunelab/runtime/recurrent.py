"""Recurrent layers on a GPU: cuDNN wants the weights of a layer side by side in memory."""

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)
SCATTERED = "RNN module weights are not part of single"  # torch's warning, at every call


def in_one_piece(model: M) -> M:
    """Put each layer's weights side by side again, and return the model; deep copies and new weights are scattered."""
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()
    return model
