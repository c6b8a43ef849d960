"""Threads, device and determinism of this process."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from prunelab.errors import ConfigError

if TYPE_CHECKING:
    import torch


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(wanted: int | None) -> int:
    """Return the number of CPU threads: `threads`, or OMP_NUM_THREADS, or 1.

    The default is the same on every machine, because another number of threads gives other bits: so single runs and
    the jobs of sweeps can share stages. A second thread speeds LeNet up by a third at most, and makes it two to three
    times as slow beside a busy process.

    Raises:
        ConfigError: if `threads` is more than the number of cores.
    """
    if wanted is not None and wanted > cores():
        raise ConfigError(f"threads={wanted}: must be at most {cores()}, the cores that this process may use")
    if wanted is not None:
        return wanted
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(int(asked), 1) if asked.isdecimal() else 1


def limit_threads(wanted: int | None) -> int:
    """Set and return the number of CPU threads; before torch is imported, since it keeps those that it starts with."""
    count = threads(wanted)
    if "torch" not in sys.modules:
        os.environ["OMP_NUM_THREADS"] = str(count)
    return count


def prepare(device: str, wanted: int | None, precision: str | None = None) -> torch.device:
    """Set threads, determinism and TF32, and return the device. Call it before torch does any work.

    Args:
        precision: `tf32`: matrix products and convolutions on a GPU with 10 bits of mantissa; else with all 23.

    Raises:
        ConfigError: if this machine has no such device, or fewer cores, or the device no TF32.
    """
    count = limit_threads(wanted)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products on CUDA
    import torch

    torch.set_num_threads(count)
    there = ["cuda"] if torch.cuda.is_available() else []  # the fastest first
    there += ["mps", "cpu"] if torch.backends.mps.is_available() else ["cpu"]
    name = there[0] if device == "auto" else device
    kind, _, index = name.partition(":")
    if kind in there and int(index or 0) >= (gpus := max(torch.cuda.device_count(), 1)):
        raise ConfigError(f"device={name}: this machine has {gpus} GPU; must be cuda or cuda:0 … cuda:{gpus - 1}")
    if kind not in there:
        raise ConfigError(f"device={name}: this machine has none; must be auto or {' or '.join(reversed(there))}")
    # The same as use_deterministic_algorithms(True, warn_only=True), which would also import torch.compile.
    torch.set_deterministic_debug_mode("warn")
    # Filling uninitialised memory would only guard against bugs in kernels, and cost 4% of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    if precision == "tf32" and kind != "cuda":
        raise ConfigError(f"train.precision=tf32: device={name} has none; needs device=cuda")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"  # by torch's default convolutions have it
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    if kind == "cuda":
        torch.cuda.init()  # seeds reach a GPU from now on; see `seeding.seeded_by`
        for fused in ("flash", "mem_efficient", "cudnn"):  # attention whose backward pass is not deterministic
            getattr(torch.backends.cuda, f"enable_{fused}_sdp")(False)
    return torch.device(name)


def deterministic(device: torch.device) -> bool:
    """Return whether the same seed gives the same bits. MPS does not promise it."""
    return device.type in ("cpu", "cuda")


def identity(device: torch.device, threads: int) -> dict[str, str | int]:
    """Return what the bits of a result depend on besides the config; part of the name of a stage."""
    import torch

    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    dtype = str(torch.get_default_dtype())
    return {"device": device.type, "kind": kind, "threads": threads, "dtype": dtype, "torch": torch.__version__}
