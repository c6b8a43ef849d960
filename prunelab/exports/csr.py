"""Linear layers as compressed sparse rows: faster than dense ones from about 90% zeros."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from prunelab.costs.counts import SHIFTED, SHIFTED_LAYERS, NonzeroWeights
from prunelab.costs.stored_tensors import contiguous
from prunelab.errors import ConfigError
from prunelab.exports import network_files
from prunelab.exports.network_files import Build, Json, Network
from prunelab.pruning import skipping

WEIGHTS, DESCRIPTION = "model.csr.safetensors", "model.csr.json"
SPARSITY = 0.9  # zeros ÷ all weights from which CSR is faster
LEAST = 2_000  # weights; in a smaller layer the call itself takes most of the time


class CSRLinear(NonzeroWeights):
    """y = x Wᵀ + b with W, [out_features, in_features], as compressed sparse rows; for inference on the CPU.

    It computes (W xᵀ)ᵀ: torch has a fast kernel for sparse @ dense, and none for dense @ sparse.

    Attributes:
        crow: where each row begins in `col` and `values`, int32 [out_features + 1].
        col: the column of each value, int32 [nonzero].
        values: [nonzero].
        bias: [out_features], or None.
    """

    crow: Tensor
    col: Tensor

    def __init__(self, in_features: int, out_features: int, nonzero: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("crow", torch.zeros(out_features + 1, dtype=torch.int32))  # MKL requires 32 bits
        self.register_buffer("col", torch.zeros(nonzero, dtype=torch.int32))
        self.values = nn.Parameter(torch.zeros(nonzero), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(out_features), requires_grad=False) if bias else None
        self._matrix: Tensor | None = None

    @classmethod
    def of(cls, linear: nn.Linear) -> CSRLinear:
        """Return the same layer without its zeros."""
        weight = linear.weight.detach()
        kept = weight != 0
        made = cls(linear.in_features, linear.out_features, int(kept.sum()), linear.bias is not None).to(weight)
        made.crow[1:] = kept.sum(1).cumsum(0).int()
        made.col.copy_(kept.nonzero()[:, 1])
        made.values.copy_(weight[kept])
        if made.bias is not None:
            made.bias.copy_(linear.bias.detach())
        return made

    @property
    def matrix(self) -> Tensor:
        """W, sparse CSR [out_features, in_features]; shares memory with `values`.

        Raises RuntimeError if `crow` and `col` are no valid indices, as in a damaged file.
        """
        if self._matrix is None:
            shape = (self.out_features, self.in_features)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch says that CSR is in beta
                self._matrix = torch.sparse_csr_tensor(
                    self.crow, self.col, self.values.detach(), shape, check_invariants=True
                )
        return self._matrix

    def forward(self, x: Tensor) -> Tensor:
        """[…, in_features] → […, out_features]."""
        flat = x.reshape(-1, self.in_features).T  # [in, n]
        y = self.matrix @ flat if self.bias is None else torch.addmm(self.bias[:, None], self.matrix, flat)  # [out, n]
        return y.T if x.dim() == 2 else y.T.reshape(*x.shape[:-1], self.out_features)  # y.T is a view without a copy

    def extra_repr(self) -> str:
        """Return the sizes, for `print(model)`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, nonzero={len(self.values)}"

    def _apply(self, *args: Any, **keywords: Any) -> CSRLinear:
        self._matrix = None  # the tensors are about to move or to change their type
        return super()._apply(*args, **keywords)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_matrix": None}  # torch cannot copy a sparse tensor


@dataclass(frozen=True)
class Sparse:
    """A network with CSR layers.

    Attributes:
        layers: CSR layers by name: [in_features, out_features, nonzero].
        left: the other Linear layers by name, and why they are dense.
    """

    model: nn.Module
    layers: dict[str, list[int]]
    left: dict[str, str]


def sparsify(model: nn.Module, sparsity: float = SPARSITY, least: int = LEAST) -> Sparse:
    """Return a copy of the model whose sparse Linear layers are CSRLinear.

    Args:
        model: on the CPU.
        sparsity: zeros ÷ weights from which a layer is replaced, in [0, 1].
        least: the number of weights, zeros included, from which a layer is replaced.
    """
    made = deepcopy(model).eval()
    layers: dict[str, list[int]] = {}
    left: dict[str, str] = {}
    directly = read_directly(made)
    for name, module in list(made.named_modules()):
        if not isinstance(module, nn.Linear):
            continue
        zeros = 1 - int(torch.count_nonzero(module.weight)) / max(module.weight.numel(), 1)
        if isinstance(module, skipping.Skipped):
            left[name] = "is removed: the forward pass leaves it out"
        elif type(module) is not nn.Linear or module in directly:
            left[name] = "another module reads its weight, or it does more than a Linear layer"
        elif module.weight.numel() < least:
            left[name] = f"has {module.weight.numel():,} weights; below {least:,} the call itself takes the time"
        elif round(zeros, 3) < sparsity:  # as it is shown; `amount=0.9` prunes a part of a weight less than 90%
            left[name] = f"{zeros:.1%} of its weights are zero; CSR is faster from {sparsity:.0%} on"
        else:
            sparse = CSRLinear.of(module)
            layers[name] = [sparse.in_features, sparse.out_features, len(sparse.values)]
            made = _put(made, name, sparse)
    return Sparse(made, layers, left)


def save(folder: Path, network: Network) -> None:
    """Write `model.csr.safetensors` (crow, col and values of each CSR layer) and `model.csr.json`.

    Raises ConfigError if no layer is sparse enough, and StorageError if they cannot be written.
    """
    sparse = sparsify(network.model)
    if not sparse.layers:
        reasons = [f"{name}: {reason}" for name, reason in sparse.left.items()]
        why = "; ".join(reasons[:3] + (["…"] if len(reasons) > 3 else [])) or "the network has no Linear layer"
        raise ConfigError(f"export=csr: no layer can be stored as CSR: {why}")
    content = {WEIGHTS: to_bytes(contiguous(sparse.model.state_dict()))}
    biased = {name: sparse.model.get_submodule(name).bias is not None for name in sparse.layers}
    said = {"layers": sparse.layers, "biased": biased, "dense": sparse.left}
    network_files.save(folder, network, content, DESCRIPTION, said, sparse.model)


def load(folder: Path, build: Build) -> nn.Module:
    """Return the network that `save` wrote; see `network_files.load`."""
    return network_files.load(folder, WEIGHTS, DESCRIPTION, build, _filled)


def _filled(model: nn.Module, said: Json, state: dict[str, Tensor]) -> nn.Module:
    for name, (inputs, outputs, nonzero) in said["layers"].items():
        model = _put(model, name, CSRLinear(inputs, outputs, nonzero, said["biased"][name]))
    network_files.put(model, state)
    for module in model.modules():
        if isinstance(module, CSRLinear):
            module.matrix  # noqa: B018 - checks the indices
    return model


def _put(model: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """Replace a layer, under all of its names; the name of the model itself is empty."""
    old = model.get_submodule(name)
    for other, module in list(model.named_modules(remove_duplicate=False)):
        if module is old and other:
            model.set_submodule(other, layer)
    return model if name else layer


def read_directly(model: nn.Module) -> set[nn.Module]:
    """Return the layers whose weights another module reads or shares: they must keep a dense `weight`."""
    found: set[nn.Module] = set()
    owners: dict[nn.Parameter, nn.Module] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if owners.setdefault(parameter, module) is not module:
                found |= {module, owners[parameter]}
        if isinstance(module, nn.MultiheadAttention):
            found.add(module.out_proj)
        elif isinstance(module, nn.TransformerEncoderLayer):
            found |= {module.linear1, module.linear2}  # in its fused forward pass
        elif type(module).__name__.startswith(SHIFTED):
            found |= {module.get_submodule(name) for name in SHIFTED_LAYERS}
    return found
