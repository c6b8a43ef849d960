"""The fingerprint of a saved network: its outputs on two fixed inputs, which are compared whenever it is loaded."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.errors import ConfigError, one_line
from prunelab.runtime import device
from prunelab.runtime.eval_mode import in_eval_mode
from prunelab.runtime.seeding import seeded

INPUTS, SHOWN = 2, 200  # inputs; outputs that are stored as numbers
TOLERANCE = 0.01  # of the largest output: on other hardware, or where kernels may round differently


def random_inputs(count: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return the same inputs in every process, [count, *shape]: normally distributed, or small integers ≥ 0."""
    drawn = torch.randn((count, *shape), generator=torch.Generator().manual_seed(0))
    return drawn.to(dtype) if dtype.is_floating_point else drawn.abs().to(dtype)


def of(model: nn.Module, example: Tensor, exact: bool = True) -> dict[str, Any]:
    """Return the fingerprint of a network in eval mode, plain data.

    Args:
        example: inputs, [n, …], whose shape and type are used.
        exact: whether the loaded network has the same layers, so that the same hardware gives the same bits.
    """
    shape, dtype = tuple(example.shape[1:]), example.dtype
    outputs = _outputs(model, shape, dtype)
    found = {"shape": list(shape), "dtype": str(dtype).removeprefix("torch."), "outputs": outputs[:SHOWN].tolist()}
    return found | {"sha256": _digest(outputs) if exact else None, "hardware": _hardware(model)}


def check(model: nn.Module, saved: Mapping[str, Any] | None, name: object) -> None:
    """Compare a loaded network with the fingerprint that was saved with it; without one (older files), do nothing.

    All bits must be the same on the same torch, processor and number of threads; else the outputs within 1% of the
    largest one (more for half precision). Raises ConfigError, which names the file, if they differ.
    """
    if saved is None:
        return
    try:
        outputs = _outputs(model, tuple(saved["shape"]), getattr(torch, saved["dtype"]))
        expected, numbers = torch.tensor(saved["outputs"], dtype=torch.float64), outputs[:SHOWN]
        if saved["sha256"] == _digest(outputs):
            return
        apart = (numbers - expected).abs()
        other = apart[~(numbers.isnan() & expected.isnan())].nan_to_num(nan=math.inf)
        difference = max(other.tolist(), default=0.0)
        largest = float(expected.nan_to_num(0.0, 0.0, 0.0).abs().max())
    except Exception as error:  # the user's network may raise anything
        raise ConfigError(f"{name}: its fingerprint cannot be compared: {one_line(error)}") from error
    exact = saved["sha256"] is not None and saved["hardware"] == _hardware(model)
    if exact or not difference <= largest * max(TOLERANCE, _precision(model)):
        raise ConfigError(
            f"{name}: the network that was loaded is not the one that was saved: outputs differ by {difference:.3g}, "
            f"the largest is {largest:.3g}; its code must have changed, or it has state that no file holds"
        )


@torch.no_grad()
def _outputs(model: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    with in_eval_mode(model), seeded("fingerprint"):
        found: Tensor = model(random_inputs(INPUTS, shape, dtype).to(_home(model)))
    return found.detach().flatten().cpu().double()


def _digest(outputs: Tensor) -> str:
    return hashlib.sha256(outputs.contiguous().numpy().tobytes()).hexdigest()


def _hardware(model: nn.Module) -> dict[str, str | int]:
    return device.identity(_home(model), torch.get_num_threads())


def _home(model: nn.Module) -> torch.device:
    return next((value.device for value in (*model.parameters(), *model.buffers())), torch.device("cpu"))


def _precision(model: nn.Module) -> float:
    """The root of the relative precision of the coarsest parameters: 0.09 for bfloat16, 0.0003 for float32."""
    kinds = {value.dtype for value in model.parameters() if value.dtype.is_floating_point}
    return max((math.sqrt(torch.finfo(kind).eps) for kind in kinds), default=0.0)
