"""SynFlow: the flow of synaptic strength through a weight; needs no data."""

import torch
from torch import Tensor, nn

from prunelab.errors import ConfigError
from prunelab.pruning.criteria.base import Evidence, derivative, differentiable


def synflow(evidence: Evidence) -> list[Tensor]:
    """Score weights by |∂R/∂θ ⊙ θ|, R the sum of the outputs of the network with |θ| on an input of ones.

    In a network of Linear, Conv, ReLU and max- or mean-pooling layers without biases, a score is the sum over all paths
    through the weight of the product of the |θ| along the path, and what flows into a unit flows out of it. Pruned to
    a high sparsity in one step, a layer can still lose all its weights; `criterion.iterations` steps avoid that, since
    the scores of what is left grow. BatchNorm is in eval mode, its statistics made ≥ 0 as in the paper's code.

    Other networks (tanh, ReLU6, GELU, softmax in attention, LSTM gates) are scored by the same formula, but R is no sum
    of paths then and nothing is conserved: where a unit saturates under |θ|, all weights before it score about 0.

    Use it to prune at initialisation, `train.epochs=0`, to extreme compression, or if there are no data.

    Returns:
        Scores ≥ 0 in float64 (products over many layers overflow float32); on MPS, which has no float64, scaled to
        at most 1. Where a network overflows float64 as well, they are not finite, and pruning raises ValueError.

    Raises:
        ConfigError: without the shape of an example.

    Source: Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic flow",
    section 6 and algorithm 1, arXiv 2006.05467; github.com/ganguli-lab/Synaptic-Flow.
    """
    device = evidence.weights[0].device
    home = "cpu" if device.type == "mps" else device
    model = evidence.model.to(home).double()  # in place: evidence.weights are still its parameters
    with torch.no_grad():
        for tensor in [*model.parameters(), *_statistics(model)]:
            tensor.abs_()
    if not evidence.shape:
        raise ConfigError("criterion=synflow: needs the shape of an example; give Pruner(example=...) an input batch")
    with differentiable(model):
        total = model(torch.ones(1, *evidence.shape, dtype=torch.float64, device=home)).sum()
        slopes = derivative(total, evidence.weights)
    scores = [(slope * weight).abs().detach() for slope, weight in zip(slopes, evidence.weights, strict=True)]
    if home == device:
        return scores
    largest = max(float(score.max()) for score in scores) or 1.0
    return [(score / largest).float().to(device) for score in scores]


def _statistics(model: nn.Module) -> list[Tensor]:
    """Return running means and variances. (Other buffers, such as an attention mask of −∞, stay as they are.)"""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    return [buffer for module in norms for buffer in module.buffers(recurse=False)]
