"""A run leaves the process as it was: the state before and after is compared, also after an exception."""

import logging
import os
import random
import signal
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import overrides
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import prunelab
from prunelab.experiment import phase
from prunelab.runtime.process_state import unchanged

SHORT = ("schedule.rounds=1", "criterion=movement")


def torch_state() -> dict[str, object]:
    from torch.optim import optimizer

    cudnn, cuda = torch.backends.cudnn, torch.backends.cuda
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "determinism": (torch.are_deterministic_algorithms_enabled(), torch.get_deterministic_debug_mode()),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "tf32": (
            cuda.matmul.allow_tf32,
            cuda.matmul.fp32_precision,
            cudnn.conv.fp32_precision,
            cudnn.rnn.fp32_precision,
        ),
        "precision": torch.get_float32_matmul_precision(),
        "attention": (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()),
        "dtype": (torch.get_default_dtype(), torch.is_grad_enabled()),
        "generator": torch.get_rng_state().tolist(),
        "hooks": (list(optimizer._global_optimizer_pre_hooks), list(optimizer._global_optimizer_post_hooks)),
    }


def state() -> dict[str, object]:
    loggers = [logging.root, *map(logging.getLogger, ("prunelab", "matplotlib", "torch"))]
    return torch_state() | {
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "environment": {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"},
        "folder": Path.cwd(),
        "sys": (list(sys.path), list(sys.argv), sys.stdout, sys.stderr, sys.excepthook),
        "loggers": [(x.level, list(x.handlers), list(x.filters), x.propagate, x.disabled) for x in loggers],
        "logging": (logging.root.manager.disable, logging.raiseExceptions, logging.lastResort),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "warnings": (list(warnings.filters), warnings.showwarning),
        "hydra": (GlobalHydra.instance().hydra, HydraConfig.instance().cfg),
        "threads of Python": {thread.name for thread in threading.enumerate()},
    }


@pytest.fixture
def odd():
    """Settings of somebody's, none of which is a run's."""
    with unchanged():
        torch.manual_seed(3)
        torch.set_num_threads(2)
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cuda.enable_flash_sdp(True)
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
        logging.getLogger("prunelab").addHandler(logging.NullHandler())
        yield


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("quiet", [True, False])
def test_a_run_leaves_no_trace(tmp_path, quiet):
    before = state()
    prunelab.run(*overrides(tmp_path, *SHORT), quiet=quiet)
    assert state() == before


def test_the_first_quiet_run_of_a_process_does_not_silence_the_later_ones(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(logging.root.manager, "loggerDict", {})  # nobody has asked for the logger "prunelab" yet
        with pytest.raises(prunelab.ConfigError):
            prunelab.run(*overrides(tmp_path, *SHORT), "data.root=/nowhere", quiet=True)
        assert logging.getLogger("prunelab").propagate
        assert not logging.getLogger("prunelab").handlers


@pytest.mark.usefixtures("odd")
def test_nor_does_one_that_is_refused(tmp_path):
    before = state()
    with pytest.raises(prunelab.ConfigError):
        prunelab.run(*overrides(tmp_path, *SHORT), amount=2)
    with pytest.raises(prunelab.ConfigError):
        prunelab.run(*overrides(tmp_path, *SHORT), rewind="9ep")
    assert state() == before


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nor_does_one_that_fails(tmp_path, monkeypatch, error):
    before = state()

    def fail(*args, **how):
        torch.set_default_dtype(torch.float64)  # as a user's model might, among others
        os.environ["NEW"] = "1"
        os.chdir(tmp_path)
        sys.path.insert(0, "elsewhere")
        logging.getLogger("prunelab").setLevel(logging.DEBUG)
        warnings.simplefilter("ignore")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(phase, "fit", fail)
        with pytest.raises(error):
            prunelab.run(*overrides(tmp_path, *SHORT))
    assert state() == before


def test_a_run_beside_a_pruner_leaves_the_pruner_at_work(tmp_path):
    model = torch.nn.Linear(4, 4)
    pruner = prunelab.Pruner(model)
    pruner.prune(0.5)
    prunelab.run(*overrides(tmp_path, "schedule.rounds=1"), quiet=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    for _ in range(2):
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    assert int((model.weight == 0).sum()) == 8
    pruner.detach()


def test_settings_that_torch_refuses_to_read_are_restored_by_their_newer_names(tmp_path):
    conv = torch.backends.cudnn.conv
    with unchanged():
        conv.fp32_precision = "ieee"  # torch.backends.cudnn.allow_tf32 cannot be read from now on
        with unchanged():
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = True
        assert conv.fp32_precision == "ieee"


def test_a_first_run_in_a_process_leaves_torch_s_own_number_of_threads(tmp_path, python):
    few = ", ".join(map(repr, overrides(tmp_path, "schedule.rounds=1", "threads=1")))
    code = "import os, prunelab; before = dict(os.environ); "
    code += f"prunelab.run({few}, quiet=True); import torch; print(torch.get_num_threads(), dict(os.environ) == before)"
    done = python(code, cwd=tmp_path, env={"OMP_NUM_THREADS": "2"})
    assert (done.stdout, done.stderr) == ("2 True\n", "")
