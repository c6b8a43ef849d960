"""Parts of gpu_check.py that prune, compact and time single networks on a GPU; each returns its figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from gpu_runs import Figures, Setting


@contextmanager
def timed(device: str, found: list[float]) -> Iterator[None]:
    """Append the milliseconds of the body, with all that it leaves to do on the device."""
    import torch

    def done() -> float:
        torch.cuda.synchronize() if device == "cuda" else None
        return time.perf_counter()

    start = done()
    yield
    found.append(1000 * (done() - start))


def training_step(setting: Setting) -> Figures:
    """A training step of the default experiment (LeNet, batch 64, fused Adam, masks half zero), launched one by one.

    The elapsed time of 300 steps, and, by torch's profiler, the time in which the device computes.
    """
    import torch
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    from prunelab import compose
    from prunelab.config.resolve import resolve
    from prunelab.experiment.bench import Bench
    from prunelab.runtime import device
    from prunelab.training.loop import train_step

    bench = Bench(resolve(compose(f"device={setting.device}")), device.prepare(setting.device, 1))
    bench.load_data()
    bench.pruner.prune(0.5)
    optimizer, took, train = bench.new_optimizer(), list[float](), bench.data.train
    order = torch.randperm(len(train), device=setting.device).split(64)

    def steps(n: int) -> None:
        for number in range(n):
            train_step(bench.model, optimizer, *train.batch(order[number]), number, [])

    steps(20)
    n = 30 if setting.quick else 300
    with timed(setting.device, took):
        steps(n)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        steps(50)
    kernels = [e for e in found.key_averages() if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    return {
        "elapsed, ms": round(took[0] / n, 2),
        "kernels": round(sum(e.count for e in kernels) / 50),
        "time of these kernels, ms": round(sum(e.self_device_time_total for e in kernels) / 50_000, 2),
    }


def global_pruning(setting: Setting) -> Figures:
    """Half of a ResNet-50's weights (25.5 million) pruned by global magnitude on the device, against torch's function.

    `Pruner(model, output_layer=True).prune(0.5)` and `torch.nn.utils.prune.global_unstructured`; medians of 5.
    """
    import torch
    from torch.nn.utils import prune
    from torchvision.models import resnet50

    from prunelab import Pruner

    ours, theirs, differ = list[float](), list[float](), 0
    for seed in range(1 if setting.quick else 5):
        torch.manual_seed(seed)
        model, other = resnet50().to(setting.device), resnet50().to(setting.device)
        other.load_state_dict(model.state_dict())
        pruner = Pruner(model, output_layer=True)
        modules = [other.get_submodule(item.name.rpartition(".")[0]) for item in pruner.items]
        with timed(setting.device, ours):
            pruner.prune(0.5)
        with timed(setting.device, theirs):
            prune.global_unstructured([(m, "weight") for m in modules], prune.L1Unstructured, amount=0.5)
        masks = zip(pruner.items, modules, strict=True)
        differ += sum(int((item.mask != module.weight_mask).sum()) for item, module in masks)
    return {
        "Pruner.prune, ms": round(median(ours), 1),
        "torch's global_unstructured, ms": round(median(theirs), 1),
        "weights on which the two differ (equal values)": differ,
    }


def compaction(setting: Setting) -> Figures:
    """Half of the channels of each layer removed by `Pruner` and `compact` on the device; speed-up with 95% interval.

    `prunelab.costs.latency.race`: a forward pass in turns with that of the dense network, float32, TF32 off.
    """
    import torch
    from torchvision.models import resnet50, vgg16_bn

    from prunelab import Pruner, compact
    from prunelab.models.lenet5_caffe import LeNet5Caffe
    from prunelab.runtime import device

    device.prepare(setting.device, None)
    found: Figures = {}
    networks: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, ...]]] = {
        "LeNet-5-Caffe": (LeNet5Caffe, (1, 28, 28)),
        "ResNet-50": (resnet50, (3, 64, 64)),
        "VGG-16": (vgg16_bn, (3, 64, 64)),
    }
    for name, (build, shape) in list(networks.items())[: 1 if setting.quick else None]:
        torch.manual_seed(0)
        dense = build().to(setting.device).eval()
        x = torch.randn(256, *shape, device=setting.device)
        pruner = Pruner(dense, granularity="channel", allocation="local", example=x[:2])
        pruner.prune(0.5)
        start = time.perf_counter()
        made = compact(dense, x[:4])
        found[f"{name}: compact(), s"] = round(time.perf_counter() - start, 1)
        sizes = [sum(p.numel() for p in model.parameters()) for model in (dense, made.model)]
        found[f"{name}: parameters"] = f"{sizes[0]:,} → {sizes[1]:,}"
        found[f"{name}: largest difference of the outputs"] = f"{made.proof.largest_difference:.1e}"
        found |= latencies(name, {"dense": dense, "compact": made.model}, x)
    return found


def csr(setting: Setting) -> Figures:
    """Linear layers with 95% zeros as compressed sparse rows (`export=csr`) on the device, against dense ones."""
    import torch
    from torch import nn

    from prunelab import Pruner
    from prunelab.exports.csr import sparsify
    from prunelab.models.lenet import LeNet300100

    found: Figures = {}
    networks = {"LeNet-300-100": (LeNet300100(), (1, 28, 28)), "Linear 4096 × 4096": (nn.Linear(4096, 4096), (4096,))}
    for name, (dense, shape) in networks.items():
        Pruner(dense, output_layer=True).prune(0.95)
        dense = dense.to(setting.device).eval()
        x = torch.randn(256, *shape, device=setting.device)
        sparse = sparsify(dense).model
        apart = float((dense(x) - sparse(x)).detach().abs().max())
        found[f"{name}: largest difference of the outputs"] = f"{apart:.1e}"
        found |= latencies(name, {"dense": dense, "csr": sparse}, x)
    return found


def latencies(name: str, networks: dict[str, Callable], x) -> Figures:
    """Return milliseconds of the first network, and the speed-up of the second, at batch 1 and 256."""
    from prunelab.costs.latency import BATCHES, race

    found: Figures = {}
    first, second = networks
    for n in BATCHES:
        times = race(networks, x[:n], first)
        if times:
            ratio = times[second].speedup
            found[f"{name}: {first} and {second} at batch {n}, ms"] = (
                f"{times[first].ms.median:.3f}, {times[second].ms.median:.3f}"
            )
            found[f"{name}: speed-up at batch {n}"] = f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
    return found
