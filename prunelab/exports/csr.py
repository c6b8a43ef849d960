"""Linear layers that skip their zeros: compressed sparse rows times the input, faster from about 90% zeros."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from prunelab.config.schema import ConfigError
from prunelab.exports import checkpoint as portable
from prunelab.exports.checkpoint import Network
from prunelab.exports.weights import contiguous
from prunelab.pruning import masks, skipping

WEIGHTS, DESCRIPTION = "model.csr.safetensors", "model.csr.json"
SPARSITY = 0.9  # zeros ÷ all, from which on it pays
LEAST = 2_000  # weights; of a smaller layer the call itself is what takes the time


class CSRLinear(nn.Module):
    """y = x Wᵀ + b with W, [out_features, in_features], as compressed sparse rows; for inference on the CPU.

    Computes (W xᵀ)ᵀ: torch has a fast kernel for sparse @ dense, and none for dense @ sparse.

    Args:
        in_features, out_features: at least 1.
        nonzero: how many weights are kept, ≥ 0.
        bias: whether there is one.

    Attributes:
        crow: int32 [out_features + 1], where each row begins in `col` and `values`.
        col: int32 [nonzero], the column of each value.
        values: [nonzero].
        bias: [out_features], or None.
    """

    crow: Tensor
    col: Tensor

    def __init__(self, in_features: int, out_features: int, nonzero: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("crow", torch.zeros(out_features + 1, dtype=torch.int32))  # MKL wants 32 bits
        self.register_buffer("col", torch.zeros(nonzero, dtype=torch.int32))
        self.values = nn.Parameter(torch.zeros(nonzero), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(out_features), requires_grad=False) if bias else None
        self._matrix: Tensor | None = None

    @classmethod
    def of(cls, linear: nn.Linear) -> CSRLinear:
        """The same layer without its zeros."""
        weight = linear.weight.detach()
        kept = weight != 0
        made = cls(linear.in_features, linear.out_features, int(kept.sum()), linear.bias is not None).to(weight.dtype)
        made.crow[1:] = kept.sum(1).cumsum(0).int()
        made.col.copy_(kept.nonzero()[:, 1])
        made.values.copy_(weight[kept])
        if made.bias is not None:
            made.bias.copy_(linear.bias.detach())
        return made

    @property
    def matrix(self) -> Tensor:
        """W, sparse CSR [out_features, in_features], over the memory of `values`.

        Raises:
            RuntimeError: if crow and col are no rows and columns of it, as a damaged file's.
        """
        if self._matrix is None:
            shape = (self.out_features, self.in_features)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that CSR is in beta
                self._matrix = torch.sparse_csr_tensor(
                    self.crow, self.col, self.values.detach(), shape, check_invariants=True
                )
        return self._matrix

    def forward(self, x: Tensor) -> Tensor:
        """[…, in_features] → […, out_features]."""
        flat = x.reshape(-1, self.in_features).T  # [in, n]
        y = self.matrix @ flat if self.bias is None else torch.addmm(self.bias[:, None], self.matrix, flat)  # [out, n]
        return y.T if x.dim() == 2 else y.T.reshape(*x.shape[:-1], self.out_features)  # y.T is a view, and free

    def extra_repr(self) -> str:
        """Sizes, for `print(model)`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, nonzero={len(self.values)}"

    def _apply(self, *args: Any, **keywords: Any) -> CSRLinear:
        self._matrix = None  # other memory, or another type, from now on
        return super()._apply(*args, **keywords)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_matrix": None}  # torch cannot copy a sparse tensor


class Sparse(NamedTuple):
    """A network with CSR layers.

    Attributes:
        layers: of those, name → [in_features, out_features, nonzero].
        left: of the other Linear layers, name → why.
    """

    model: nn.Module
    layers: dict[str, list[int]]
    left: dict[str, str]


def sparsify(model: nn.Module, sparsity: float = SPARSITY, least: int = LEAST) -> Sparse:
    """A copy whose sparse Linear layers are CSRLinear.

    Args:
        model: without masks, on the CPU.
        sparsity: zeros ÷ weights that a layer must have, in [0, 1].
        least: weights that it must have, zeros counted.
    """
    made = deepcopy(model).eval()
    layers: dict[str, list[int]] = {}
    left: dict[str, str] = {}
    directly = read_directly(made)
    for name, module in list(made.named_modules()):
        if not isinstance(module, nn.Linear):
            continue
        zeros = float((module.weight == 0).float().mean())
        if isinstance(module, skipping.Skipped):
            left[name] = "is removed: it is skipped as a whole"
        elif type(module) is not nn.Linear or module in directly:
            left[name] = "another module reads its weight, or it does more than a Linear layer"
        elif module.weight.numel() < least:
            left[name] = f"has {module.weight.numel():,} weights; below {least:,} the call itself takes the time"
        elif zeros < sparsity:
            left[name] = f"{zeros:.1%} of its weights are zero; CSR pays from {sparsity:.0%} on"
        else:
            sparse = CSRLinear.of(module)
            layers[name] = [sparse.in_features, sparse.out_features, len(sparse.values)]
            made = _put(made, name, sparse)
    return Sparse(made, layers, left)


def save(folder: Path, network: Network) -> None:
    """Writes `model.csr.safetensors` (crow, col and values of each CSR layer) and `model.csr.json`.

    Raises:
        ConfigError: if no layer is sparse enough.
    """
    sparse = sparsify(network.model)
    if not sparse.layers:
        reasons = [f"{name}: {reason}" for name, reason in sparse.left.items()]
        why = "; ".join(reasons[:3] + (["…"] if len(reasons) > 3 else [])) or "it has no Linear layer"
        raise ConfigError(f"export=csr: no layer to store that way: {why}")
    content = {WEIGHTS: to_bytes(contiguous(sparse.model.state_dict()))}
    biased = {name: sparse.model.get_submodule(name).bias is not None for name in sparse.layers}
    said = portable.describe(network, content) | {"layers": sparse.layers, "biased": biased, "dense": sparse.left}
    portable.write_all(folder, {**content, DESCRIPTION: json.dumps(said, indent=1).encode()})


def load(folder: Path, trusted: Iterable[str] = ()) -> nn.Module:
    """The network that `save` wrote; on the CPU, in eval mode.

    Raises:
        ConfigError: if the files are missing, damaged, or do not belong together.
    """
    said = portable.read_json(folder / DESCRIPTION)
    try:
        data = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise ConfigError(f"{folder / WEIGHTS}: {error.strerror}") from error
    portable.verify(folder, {WEIGHTS: data}, said)
    model = portable.build(said, trusted)
    try:
        for name, (inputs, outputs, nonzero) in said["layers"].items():
            model = _put(model, name, CSRLinear(inputs, outputs, nonzero, said["biased"][name]))
        portable.fill(model, portable.tensors(folder / WEIGHTS, data), folder / WEIGHTS)
        for module in model.modules():
            if isinstance(module, CSRLinear):
                module.matrix  # noqa: B018 - checks rows and columns
    except (AttributeError, LookupError, TypeError, RuntimeError) as error:
        raise ConfigError(f"{folder / DESCRIPTION}: does not fit its config's model: {error}") from error
    return model.eval()


def _put(model: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """Puts a layer in another's place; the model itself may be that layer."""
    if not name:
        return layer
    path, _, key = name.rpartition(".")
    setattr(model.get_submodule(path), key, layer)
    return model


def read_directly(model: nn.Module) -> set[nn.Module]:
    """Layers whose own forward is never called, since the module around them reads their weights."""
    wanted = [
        (m, key)
        for m in model.modules()
        for kind in type(m).__mro__
        for key in masks.READ_DIRECTLY.get(kind.__name__, ())
    ]
    return {child for module, key in wanted if isinstance(child := getattr(module, key, None), nn.Module)}
