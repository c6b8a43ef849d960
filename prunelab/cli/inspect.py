"""`prunelab inspect`: show what one pruning call does to one module of a model, without training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from prunelab.cli.arguments import failed, parser
from prunelab.errors import ConfigError
from prunelab.runtime.streams import say

if TYPE_CHECKING:
    from torch import Tensor, nn

DESCRIPTION = """\
Shows what one pruning call does to one module of your model, without training.

It is the first round of the experiment that the same overrides describe, on the first tensor that may be pruned."""
EPILOG = """\
examples:
  prunelab inspect
  prunelab inspect strategy=l1 amount=0.3 'prune.include=[fc3.weight]'
  prunelab inspect strategy=custom 'prune.include=[fc3.bias]'"""

CLOSING = """
prunelab itself keeps the weight a plain parameter and the mask beside it; nothing is hooked into the forward
pass. prunelab.to_torch_prune(masks) gives the form shown here."""


def tour(config: DictConfig) -> str:
    """Return the text: one module before a pruning call, after it in torch's form, and when the zeros are permanent.

    Raises:
        ConfigError: for a config that cannot run.
    """
    import torch
    from torch.nn.utils import prune

    from prunelab.config.network import users_parts
    from prunelab.config.resolve import resolve
    from prunelab.config.rounds import rounds
    from prunelab.experiment.bench import Bench
    from prunelab.pruning.torch_prune import to_torch_prune
    from prunelab.runtime import device
    from prunelab.runtime.seeding import derive
    from prunelab.runtime.user_code import user_code

    spec = resolve(config)
    if spec.strategy.layers:
        raise ConfigError("strategy=layer: removes layers by the validation loss, and inspect loads no data")
    bench = Bench(spec, device.prepare("cpu", spec.threads))
    item = bench.pruner.items[0]
    module, key = item.module, item.key
    lines = [f"{item.name} of {type(bench.model).__name__}: {module}", "", "before", *_contents(module)]
    amount, weight = rounds(spec)[0].amounts[0], item.parameter.detach().clone()
    with user_code(users_parts(spec)):
        report = bench.pruner.prune(amount, seed=derive(spec.seed, 1, "prune"))
    gone, size = item.mask.numel() - int(item.kept.sum()), item.mask.numel()
    title = f"after {spec.strategy.name}, amount={amount}: {gone} of {size} pruned in {report.milliseconds:.2f} ms"
    to_torch_prune(bench.masks)
    with torch.no_grad():  # as if torch had pruned: the weights under the mask are still there
        getattr(module, f"{key}_orig").copy_(weight)
    lines += ["", f"{title}, in the form of torch.nn.utils.prune", *_contents(module), *_in_torch(module, key)]
    prune.remove(module, key)
    lines += ["", "after prune.remove: the zeros are permanent, mask and hook are gone", *_contents(module)]
    return "\n".join([*lines, *_indented(key, getattr(module, key)), CLOSING])


def _in_torch(module: nn.Module, key: str) -> list[str]:
    """Lines on the three tensors of a weight in torch's form."""
    return [
        f"  {key}_orig is the parameter that the optimizer moves, {key}_mask a buffer;",
        f"  {key} = {key}_orig · {key}_mask is computed before each forward pass, by a hook:",
        *(f"    {hook!r}".split(" object at")[0] for hook in module._forward_pre_hooks.values()),
        *(line for name in (f"{key}_orig", f"{key}_mask", key) for line in _indented(name, getattr(module, name))),
    ]


def _contents(module: nn.Module) -> list[str]:
    def listed(pairs: Iterable[tuple[str, object]]) -> str:
        return ", ".join(f"{key} {list(getattr(value, 'shape', []))}" for key, value in pairs) or "–"

    return [
        f"  named_parameters   {listed(module.named_parameters())}",
        f"  named_buffers      {listed(module.named_buffers())}",
        f"  _forward_pre_hooks {len(module._forward_pre_hooks)}",
    ]


def _indented(name: str, tensor: Tensor) -> list[str]:
    """Lines that show the first two-dimensional slice of the tensor."""
    shown = tensor.detach()
    while shown.dim() > 2:
        shown, name = shown[0], name + "[0]"
    return [f"  {name} =", *(f"    {line}" for line in str(shown).splitlines())]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return its exit status: 1 for a config that cannot run."""
    options = parser("inspect", DESCRIPTION, EPILOG)
    options.add_argument("overrides", nargs="*", metavar="override", help="as of an experiment, such as amount=0.3")
    overrides = options.parse_args(arguments).overrides
    from prunelab.config import compose as composing

    try:
        say(tour(composing.compose(*overrides)))
    except ConfigError as error:
        return failed(error)
    return 0
