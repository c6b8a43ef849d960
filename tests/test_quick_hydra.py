"""The quick form of Hydra's `compose` that all tests use gives what Hydra itself gives."""

import pytest
import quick_hydra
from omegaconf import OmegaConf

from prunelab.config.compose import own_hydra


def both(overrides, **more):
    """What the quick form and Hydra itself return, or the error that they raise."""
    for compose in (quick_hydra.compose, hydra_itself):
        try:
            with own_hydra():
                config = compose("config", list(overrides), **more)
            yield OmegaConf.to_yaml(config), OmegaConf.is_struct(config)
        except Exception as error:
            yield type(error), str(error), str(error.__cause__)


def hydra_itself(*given, **more):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick_hydra.FileConfigSource, "load_config", quick_hydra.LOAD)
        patch.setattr(quick_hydra.defaults_list, "_create_interpolation_map", quick_hydra.INTERPOLATION)
        return quick_hydra.IN_FULL(*given, **more)


@pytest.mark.parametrize(
    "overrides",
    [
        *(["amount=0.3", "schedule.rounds=2"], ["train.epochs=2", "strategy=lottery_ticket", "rewind=2ep"]),
        *(["optimizer=sgd", "~optimizer.momentum", "+optimizer.nesterov=true"], ["amount=${oc.env:HOME}"]),
        *(["strategy.rules=[{match: Conv2d}]", "trusted=[a,b]"], ["seed=1", "seed=2"], ["hydra.run.dir=x"]),
        *(["amonut=3"], ["seed=abc"], ["amount=0.1,0.2"], ["amount=["], ["strategy.nix=1"], ["data=nix", "seed=1"]),
    ],
    ids=" ".join,
)
def test_it_gives_what_hydra_gives(overrides):
    quick, full = both(overrides)
    assert quick == full


def test_a_config_that_was_changed_changes_no_other():
    with own_hydra():
        quick_hydra.compose("config", ["seed=1"]).train.epochs = 77
    quick, full = both(["seed=1"])
    assert quick == full


def test_hydra_s_own_settings_are_there_if_asked_for():
    quick, full = both([], return_hydra_config=True)
    assert quick == full
