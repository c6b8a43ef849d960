"""Parts of gpu_check.py that time graphs, precisions and several networks as one on a GPU; each returns its figures."""

from __future__ import annotations

from gpu_networks import timed
from gpu_runs import Figures, Setting

WIDTHS = (1, 16, 64, 256)
BATCH = 64


def trainings(setting: Setting, name: str, count: int, steps: int, **how) -> list:
    """Return trainings of `count` networks on MNIST, each with half of its weights pruned; they share the data."""
    import torch

    from prunelab import Pruner, compose
    from prunelab.config.network import dataset, network
    from prunelab.config.resolve import resolve
    from prunelab.runtime import device
    from prunelab.training.loop import Training, one_by_one
    from prunelab.training.optimizers import build_optimizer
    from prunelab.training.spec import Position, TrainSpec

    spec = resolve(compose(f"model={name}", *(["data.limit=1000"] if setting.quick else [])))
    home = device.prepare(setting.device, 1, how.get("precision"))
    data, found = dataset(spec.data).to(home), []
    for seed in range(count):
        torch.manual_seed(seed)
        model = network(spec).to(home).train()
        Pruner(model).prune(0.5)
        optimizer = build_optimizer(torch.optim.Adam, model, lr=1e-3, fused=True)
        plan = TrainSpec(steps, BATCH, seed, precision=how.get("precision"))
        one = Training(
            model, optimizer, data.train, data.validation, plan, [], Position(), None, lambda: None, one_by_one
        )
        one.position.begin_epoch(plan, steps, home)
        found.append(one)
    return found


def orders(setting: Setting, one, steps: int) -> list:
    """Return the indices of the examples of `steps` batches."""
    import torch

    last = len(one.train) // BATCH * BATCH
    every = torch.arange(last, device=one.train.inputs.device).split(BATCH)
    return [every[number % len(every)] for number in range(steps)]


def step_ms(setting: Setting, name: str, how: str, steps: int, **more) -> tuple[float, list[bytes]]:
    """Return milliseconds of a step of one network, and its bits afterwards; the first steps are not timed."""
    from prunelab.training.cuda_graph import graphed
    from prunelab.training.loop import one_by_one

    take, took = graphed if how == "graph" else one_by_one, list[float]()
    for count in (10, steps):
        (one,) = trainings(setting, name, 1, count, **more)
        with timed(setting.device, took):
            take(one, orders(setting, one, count))
    return took[-1] / steps, [tensor.cpu().numpy().tobytes() for tensor in one.model.state_dict().values()]


def cuda_graph(setting: Setting) -> Figures:
    """A training step of LeNet and LeNet-300-100 (batch 64, fused Adam, masks half zero), eager and with train.graph.

    The time of 800 steps, divided by 800, with the capture in it.
    """
    found, steps = Figures(), 20 if setting.quick else 800
    for name in ("lenet", "lenet_300_100"):
        eager, bits = step_ms(setting, name, "eager", steps)
        graph, other = step_ms(setting, name, "graph" if setting.device == "cuda" else "eager", steps)
        found[f"{name}: eager and graph, ms a step"] = f"{eager:.2f}, {graph:.2f}"
        found[f"{name}: bit-identical"] = "yes" if bits == other else "NO"
    return found


def precision(setting: Setting) -> Figures:
    """A training step of ResNet-18 on MNIST (batch 64, fused Adam, masks half zero) in fp32, TF32 and bf16, eager."""
    found, steps = Figures(), 5 if setting.quick else 100
    kinds = (None, "bf16") if setting.device == "cpu" else (None, "tf32", "bf16")
    for kind in kinds:
        name = "lenet" if setting.quick else "resnet18"
        took, _ = step_ms(setting, name, "eager", steps, precision=kind)
        found[f"{name}: {kind or 'fp32'}, ms a step"] = round(took, 2)
    return found


def several(setting: Setting) -> Figures:
    """Networks trained as one (hydra/launcher=batched), eager and captured in a CUDA graph, against one at a time.

    Times are of 200 steps at batch 64 with fused or batched Adam and masks half zero; ratios are networks × steps a
    second ÷ those of one network, both eager, or both captured in a CUDA graph.
    """
    from prunelab.training import batched_fit
    from prunelab.training.batched_fit import Epoch

    found, steps = Figures(), 10 if setting.quick else 200
    for name in ("lenet", "lenet_300_100"):
        alone = {how: step_ms(setting, name, how, steps)[0] for how in ("eager", "graph")[: 1 + (not setting.quick)]}
        for width in WIDTHS[: 2 if setting.quick else None]:
            for graph in (False, True)[: 1 + (setting.device == "cuda")]:
                took, many = list[float](), trainings(setting, name, width, 10 + steps)
                for count in (10, steps):
                    asked = [Epoch(one, orders(setting, one, count), "", graph) for one in many]
                    with timed(setting.device, took):
                        batched_fit.train(asked, width)
                ms = took[-1] / steps
                ratios = ", ".join(f"{width * one / ms:.1f} × {how}" for how, one in alone.items())
                found[f"{name}: {width} networks{' by a graph' * graph}, ms a step"] = f"{ms:.2f} ({ratios})"
    return found


def batched_sweep(setting: Setting) -> Figures:
    """A whole sweep, 16 seeds × 2 amounts of the default experiment, by hydra/launcher=batched and one after the other.

    The second is estimated from the seconds of one run of the default experiment.
    """
    few = (f"device={setting.device}", "seed=range(2)" if setting.quick else "seed=range(16)", "amount=0.2,0.5")
    seconds = setting.run("batched", "-m", "hydra/launcher=batched", *few, "baseline=false")
    one = setting.run("single", f"device={setting.device}")
    jobs = 4 if setting.quick else 32
    return {
        "jobs": jobs,
        "whole sweep, s": round(seconds, 1),
        "one run, s": round(one, 1),
        "as fast as one after the other": f"{jobs * one / seconds:.1f} times",
    }
