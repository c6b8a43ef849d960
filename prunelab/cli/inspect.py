"""`prunelab inspect`: show what one pruning call does to one module of a model, without training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from omegaconf import DictConfig

from prunelab.config.schema import ConfigError

if TYPE_CHECKING:
    from torch import nn

DESCRIPTION = """\
Shows what one pruning call does to one module of your model, without training.

It is the first round of the experiment that the same overrides describe, on the first tensor that may be pruned."""
EPILOG = """\
examples:
  prunelab inspect
  prunelab inspect strategy=l1 amount=0.3 prune.include=[fc3.weight]
  prunelab inspect strategy=custom prune.include=[fc3.bias]"""


def tour(config: DictConfig) -> str:
    """Return the text: the module before the call, after it, and when the zeros are made permanent.

    Raises:
        ConfigError: for a config that cannot run.
    """
    from torch.nn.utils import prune

    from prunelab.config import build as building
    from prunelab.pruning import masks, schedules
    from prunelab.runtime import device as hardware
    from prunelab.runtime.seeding import seed_torch

    hardware.prepare(config)
    seed_torch(int(config.seed), "init")
    facts = building.data_facts(config)
    model = building.network(config)
    output = None if config.prune.output_layer else masks.output_layer(model)
    module, name = masks.select(model, config.prune.include, config.prune.exclude, output)[0]
    path = next(path for path, found in model.named_modules() if found is module)
    full = f"{path}.{name}".lstrip(".")
    amount = schedules.rounds(config)[0].amounts[0]

    lines = [f"{full} of {type(model).__name__}: {module}", *_section("before", _contents(module))]
    prune.identity(module, name)
    took = _prune(config, model, (module, name), full, amount, facts.get("shape", ()))
    (item,) = [found for found in masks.masked(model) if found.name == full]
    gone = item.mask.numel() - int(item.mask.sum())
    call = f"{config.strategy._target_.rsplit('.', 1)[-1]}, amount={amount}"
    lines += _section(f"after {call}: {gone} of {item.mask.numel()} pruned in {took:.2f} ms", _contents(module))
    lines += [
        f"  {name}_orig is the parameter that the optimizer moves, {name}_mask a buffer;",
        f"  {name} = {name}_orig · {name}_mask is computed before each forward pass, by a hook:",
        *(f"    {hook!r}".split(" object at")[0] for hook in module._forward_pre_hooks.values()),
        *_indented(f"{name}_orig", item.original),
        *_indented(f"{name}_mask", item.mask),
        *_indented(name, item.effective),
    ]
    masks.bake(model)
    lines += _section("after prune.remove: the zeros are permanent, mask and hook are gone", _contents(module))
    return "\n".join([*lines, *_indented(name, getattr(module, name))])


def _prune(
    config: DictConfig,
    model: nn.Module,
    pair: tuple[nn.Module, str],
    full: str,
    amount: float | None,
    shape: Sequence[int],
) -> float:
    """Prune one tensor as the first round would. Return the milliseconds that it took."""
    import torch

    from prunelab.config import build as building
    from prunelab.pruning.criteria import base as criteria
    from prunelab.pruning.strategies import base as strategies
    from prunelab.runtime.seeding import seed_torch

    strategy = building.bind(config, "strategy", [], 0.0, given={**strategies.GIVEN, "names": [full]})
    if building.takes(strategy, "layers"):
        raise ConfigError("strategy=layer: needs the validation loss, and inspect loads no data")
    criterion = building.bind(config, "criterion", None)

    def score() -> criteria.Scores:
        initial = {full: criteria.original(*pair)}
        with torch.enable_grad():
            return criterion(criteria.gather(model, [full], initial, {}, _no_data, shape))

    seed_torch(int(config.seed), 1, "prune")
    scored = score if building.takes(strategy, "scores") else None
    return strategies.prune(model, [pair], strategy, amount, scored, config.criterion.iterations)


def _no_data(examples: int) -> NoReturn:
    raise ConfigError("criterion: inspect loads no data; magnitude, random and synflow need none")


def _contents(module: object) -> list[str]:
    from torch import nn

    assert isinstance(module, nn.Module)

    def listed(pairs: Iterable[tuple[str, object]]) -> str:
        return ", ".join(f"{key} {list(getattr(value, 'shape', []))}" for key, value in pairs) or "–"

    return [
        f"  named_parameters   {listed(module.named_parameters())}",
        f"  named_buffers      {listed(module.named_buffers())}",
        f"  _forward_pre_hooks {len(module._forward_pre_hooks)}",
    ]


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *lines]


def _indented(name: str, tensor: object) -> list[str]:
    """Lines that show the first two-dimensional slice of the tensor."""
    import torch

    assert isinstance(tensor, torch.Tensor)
    first = tensor.detach()
    index = ""
    while first.dim() > 2:
        first, index = first[0], index + "[0]"
    shown = str(first.cpu()).splitlines()
    return [f"  {name}{index} =", *(f"    {line}" for line in shown)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return its exit status: 1 for a config that cannot run."""
    parser = argparse.ArgumentParser(
        prog="prunelab inspect",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="override", help="as of an experiment, such as amount=0.3")
    options = parser.parse_args(arguments)
    from prunelab.config import compose as composing

    try:
        print(tour(composing.compose(*options.overrides)))
    except ConfigError as error:
        print(f"prunelab: {error}", file=sys.stderr)
        return 1
    return 0
