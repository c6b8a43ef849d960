"""`prunelab inspect`: show what one pruning call does to one module of a model, without training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from prunelab.errors import ConfigError

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

CLOSING = (
    "prunelab itself keeps the weight a plain parameter and the mask beside it; nothing is hooked into the forward",
    "pass. prunelab.to_torch_prune(masks) gives the form shown here.",
)


def tour(config: DictConfig) -> str:
    """Return the text: one module before a pruning call, after it in torch's form, and when the zeros are permanent.

    Raises:
        ConfigError: for a config that cannot run.
    """
    import torch
    from torch.nn.utils import prune

    from prunelab.config.resolve import resolve
    from prunelab.config.rounds import rounds
    from prunelab.experiment.bench import Bench
    from prunelab.pruning.torch_prune import to_torch_prune
    from prunelab.runtime import device
    from prunelab.runtime.seeding import derive

    spec = resolve(config)
    if spec.strategy.layers:
        raise ConfigError("strategy=layer: removes layers by the validation loss, and inspect loads no data")
    bench = Bench(spec, device.prepare("cpu", spec.threads))
    item = bench.pruner.items[0]
    module, key = item.module, item.key
    lines = [f"{item.name} of {type(bench.model).__name__}: {module}", *_section("before", _contents(module))]
    amount, weight = rounds(spec)[0].amounts[0], item.parameter.detach().clone()
    report = bench.pruner.prune(amount, seed=derive(spec.seed, 1, "prune"))
    gone, size = item.mask.numel() - int(item.kept.sum()), item.mask.numel()
    title = f"after {spec.strategy.name}, amount={amount}: {gone} of {size} pruned in {report.milliseconds:.2f} ms"
    to_torch_prune(bench.masks)
    with torch.no_grad():  # as if torch had pruned: the weights under the mask are still there
        getattr(module, f"{key}_orig").copy_(weight)
    lines += [*_section(f"{title}, in the form of torch.nn.utils.prune", _contents(module)), *_in_torch(module, key)]
    prune.remove(module, key)
    lines += _section("after prune.remove: the zeros are permanent, mask and hook are gone", _contents(module))
    lines += [*_indented(key, getattr(module, key)), "", *CLOSING]
    return "\n".join(lines)


def _in_torch(module: nn.Module, key: str) -> list[str]:
    """Lines on the three tensors of a weight in torch's form."""
    return [
        f"  {key}_orig is the parameter that the optimizer moves, {key}_mask a buffer;",
        f"  {key} = {key}_orig · {key}_mask is computed before each forward pass, by a hook:",
        *(f"    {hook!r}".split(" object at")[0] for hook in module._forward_pre_hooks.values()),
        *(line for name in (f"{key}_orig", f"{key}_mask", key) for line in _indented(name, getattr(module, name))),
    ]


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
