"""The layers that give a model's output, found by following the output back through autograd's graph."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from prunelab.pruning.masks import named
from prunelab.runtime.eval_mode import in_eval_mode

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
PRODUCT = re.compile(r"mm|mv|conv|linear|bilinear|dot|rnn|lstm|gru|attention", re.IGNORECASE)  # nodes of autograd


def output_layers(model: nn.Module, example: Tensor | None = None) -> list[str]:
    """Return the names of the modules whose weights give the model's output, in the model's own order.

    Several, if the output depends on several layers with no other layer's weight in between, such as two heads.

    Args:
        example: an input batch. The output is followed back to the first products with a weight, so it does not matter
            how the weight is read. None, or if the model cannot run on it: the Conv or Linear layer defined last.
    """
    last = [name for name, module in model.named_modules() if isinstance(module, LAYERS)][-1:]
    if example is None:
        return last
    places: dict[int, set[str]] = {}
    for name, _, _, parameter in named(model):
        places.setdefault(id(parameter), set()).add(name.rpartition(".")[0])
    layers = {id(parameter) for _, module, _, parameter in named(model) if isinstance(module, LAYERS)}
    inputs = example.detach().clone().requires_grad_(example.is_floating_point())
    try:
        with in_eval_mode(model), _requiring_gradients(model), torch.enable_grad():
            found = _followed(model(inputs.clone()), inputs, layers)  # a model may work in place on its input
    except Exception:  # reported before training
        return last
    names = set[str]().union(*(places.get(id(weight), set()) for weight in found))
    return [name for name, _ in model.named_modules(remove_duplicate=False) if name in names] or last


@contextmanager
def _requiring_gradients(model: nn.Module) -> Iterator[None]:
    """Let all parameters require gradients, so that frozen ones are in the graph too."""
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _followed(output: object, example: Tensor, layers: set[int]) -> list[Tensor]:
    """Return the weights of the first products on the way back from each tensor of an output.

    Args:
        example: the input, in the graph if it is of floats.
        layers: identities of the weights of Conv and Linear layers, which count even outside of a product.
    """
    waiting = [tensor.grad_fn for tensor in _tensors(output) if tensor.grad_fn is not None]
    after = _graph(waiting)
    data = _depending(after, [node for node in after if _is_data(node, example)]) or _depending(
        after, [node for node in after if _is_product(node) and None in [child for child, _ in node.next_functions]]
    )
    seen, found = set[Any](), list[Tensor]()
    while waiting:
        node = waiting.pop()
        if node in seen or node not in data:
            continue
        seen.add(node)
        weights = [weight for child in after[node] if child not in data for weight in _leaves(child)]
        if weights and (_is_product(node) or any(id(weight) in layers for weight in weights)):
            found += weights
        else:
            waiting += after[node]
    return found


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list, Mapping)):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(part)


def _graph(roots: Sequence[Any]) -> dict[Any, list[Any]]:
    """Return the nodes that come after each node of a graph, on the way back to its leaves."""
    return _reached(roots, lambda node: [child for child, _ in node.next_functions if child is not None])


def _depending(after: Mapping[Any, list[Any]], sources: Sequence[Any]) -> set[Any]:
    """Return the nodes from which one of the sources is reached, the sources included."""
    before: dict[Any, list[Any]] = {}
    for node, children in after.items():
        for child in children:
            before.setdefault(child, []).append(node)
    return set(_reached(sources, lambda node: before.get(node, [])))


def _reached(roots: Sequence[Any], after: Callable[[Any], list[Any]]) -> dict[Any, list[Any]]:
    """Return all nodes that are reached from the roots, each with those that come directly after it."""
    found, waiting = dict[Any, list[Any]](), [*roots]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = after(node)
            waiting += found[node]
    return found


def _is_product(node: Any) -> bool:
    return PRODUCT.search(node.name()) is not None


def _is_data(node: Any, example: Tensor) -> bool:
    return "Embedding" in node.name() or getattr(node, "variable", None) is example


def _leaves(root: Any) -> list[Tensor]:
    """Return the weights that a part of the graph ends at."""
    found = (getattr(node, "variable", None) for node in _graph([root]))  # of AccumulateGrad
    return [weight for weight in found if isinstance(weight, Tensor) and weight.dim() > 1]
