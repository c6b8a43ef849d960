"""The precision of a network's arithmetic."""

from collections.abc import Callable

import torch
from torch import Tensor


def forward(model: Callable[[Tensor], Tensor], inputs: Tensor, precision: str | None = None) -> Tensor:
    """Return a network's output for a batch.

    Args:
        precision: `bf16`: autocast computes matrix products and convolutions in bfloat16, and the output is float32;
            else as torch is set. `tf32` is a setting of the process, see `device.prepare`.
    """
    if precision != "bf16":
        return model(inputs)
    with torch.autocast(inputs.device.type, torch.bfloat16):
        output = model(inputs)
    return output.float()
