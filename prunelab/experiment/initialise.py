"""Initialisations by name: how the weights of any network are drawn."""

import functools
from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import init

from prunelab.errors import ConfigError

DRAWS: Mapping[str, Callable[[Tensor], object]] = {
    "glorot_normal": init.xavier_normal_,
    "glorot_uniform": init.xavier_uniform_,
    "he_normal": functools.partial(init.kaiming_normal_, nonlinearity="relu"),
    "he_uniform": functools.partial(init.kaiming_uniform_, nonlinearity="relu"),
    "lecun_normal": functools.partial(init.kaiming_normal_, nonlinearity="linear"),
    "orthogonal": init.orthogonal_,
}


@torch.no_grad()
def initialise(model: nn.Module, name: str) -> None:
    """Draw the weights of a network again, from torch's generator, and set the biases beside them to zero.

    Weights are the parameters of two or more dimensions whose name has `weight` in it; norms keep their ones.

    Args:
        name: a key of `DRAWS`.

    Source: Glorot & Bengio 2010, eqs. 12 and 16; He et al. 2015, arXiv 1502.01852, eq. 10; Saxe et al. 2014.
    """
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        weights = [weight for key, weight in own.items() if "weight" in key and weight.dim() >= 2]
        for weight in weights:
            DRAWS[name](weight)
        for key, bias in own.items():
            if weights and "bias" in key:
                bias.zero_()


def drawn_again(model: nn.Module) -> nn.Module:
    """Return a copy of a live model with other initial weights, drawn by its modules' own `reset_parameters`."""
    copy = deepcopy(model)
    for name, module in copy.named_modules():
        if list(module.parameters(recurse=False)):
            reset = getattr(module, "reset_parameters", None)
            if reset is None:
                raise ConfigError(f"control=reinit: {name} ({type(module).__name__}) has no reset_parameters()")
            reset()
    return copy
