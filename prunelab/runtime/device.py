"""What the machine is asked for: threads, device, determinism."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from prunelab.config.schema import ConfigError

if TYPE_CHECKING:
    import torch

MOST_THREADS = 4  # small networks get slower beyond


def threads(config: DictConfig) -> int:
    """CPU threads: `threads`, else OMP_NUM_THREADS, which a launcher may have set, else the cores, at most 4."""
    if config.threads is not None:
        return int(config.threads)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_THREADS)


def prepare(config: DictConfig) -> torch.device:
    """Sets threads and determinism and returns the device. Call it before torch does any work.

    Raises:
        ConfigError: if the device is not there.
    """
    count = threads(config)
    if "torch" not in sys.modules:  # a pool that starts with more threads keeps them
        os.environ["OMP_NUM_THREADS"] = str(count)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products on CUDA
    import torch

    torch.set_num_threads(count)
    there = available()
    name = there[0] if config.device == "auto" else config.device
    if name not in there:
        raise ConfigError(f"device={name}: this machine has none; must be auto or {' or '.join(reversed(there))}")
    # As use_deterministic_algorithms(True, warn_only=True), which would import the compiler. It warns where it fails.
    torch.set_deterministic_debug_mode("warn")
    # What guards against bugs in kernels costs 4% of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    return torch.device(name)


def available() -> list[str]:
    """The devices there are, the fastest first; always ends with cpu."""
    import torch

    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]


def deterministic(device: torch.device) -> bool:
    """Whether the same seed gives the same bits: on the CPU and on CUDA; MPS promises nothing."""
    return device.type in ("cpu", "cuda")


def identity(device: torch.device, threads: int) -> dict[str, str | int]:
    """What the bits of a result depend on beside the config, for a stage's name."""
    import torch

    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    dtype = str(torch.get_default_dtype())
    return {"device": device.type, "kind": kind, "threads": threads, "dtype": dtype, "torch": torch.__version__}
