"""What every criterion promises, on every kind of network."""

import inspect
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from toys import MODELS, evidence, local_seed, toy

import prunelab
from prunelab.config import build as building
from prunelab.pruning.criteria import base as criteria

FILES = sorted((Path(prunelab.__file__).parent.parent / "conf" / "criterion").glob("*.yaml"))
TARGETS = {path.stem: OmegaConf.load(path) for path in FILES}
OF_THE_CORE = {"_target_", "iterations"}  # of every criterion, read by what calls it


def criterion(name):
    module, _, function = TARGETS[name]._target_.rpartition(".")
    return getattr(__import__(module, fromlist=[function]), function)


def cheap(name):
    return {"examples": 10} if "examples" in inspect.signature(criterion(name)).parameters else {}


VARIANTS = [(name, {}) for name in TARGETS] + [("obd", {"hessian": "hutchinson"})]
every = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda value: str(value))
network = pytest.mark.parametrize("model", MODELS)


def scored(name, given, **options):
    with local_seed(7):
        return criterion(name)(given, **cheap(name), **options)


def flags():
    return {
        "cudnn": torch.backends.cudnn.enabled,
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
        "attention": torch.backends.mha.get_fastpath_enabled(),
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
    }


def test_there_are_files_for_all_of_them():
    source = Path(criteria.__file__).parent
    assert {path.stem for path in source.glob("*.py")} - {"__init__"} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_the_yaml_says_what_the_function_takes_with_its_defaults(name):
    options = list(inspect.signature(criterion(name)).parameters.values())[1:]
    assert all(option.kind is option.KEYWORD_ONLY for option in options)
    written = {key: value for key, value in TARGETS[name].items() if key not in OF_THE_CORE}
    assert written == {option.name: option.default for option in options}


@pytest.mark.parametrize("name", TARGETS)
def test_the_config_may_name_it(name):
    assert building.locate(TARGETS[name]._target_, "criterion._target_") is criterion(name)


@every
@network
def test_scores_are_ranked_as_they_come(name, options, model):
    given = toy(model)
    found = scored(name, given, **options)
    assert [score.shape for score in found] == [weight.shape for weight in given.weights]
    assert not any(score.requires_grad for score in found)
    criteria.ranks(found)  # finite and ≥ 0, else it raises
    assert len(torch.cat([score.flatten() for score in found]).unique()) > 10


@every
@network
def test_the_same_every_time(name, options, model):
    first, second = (scored(name, toy(model), **options) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@every
@network
@pytest.mark.parametrize("enabled", [True, False])
def test_no_trace_is_left(name, options, model, enabled):
    given = toy(model)
    with torch.set_grad_enabled(enabled):
        before = flags()
        scored(name, given, **options)
        assert flags() == before
    assert all(parameter.grad is None for parameter in given.model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in given.model.modules())


@every
@network
def test_whoever_calls_it_may_have_turned_gradients_off(name, options, model):
    expected = scored(name, toy(model), **options)
    with torch.no_grad():
        found = scored(name, toy(model), **options)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@every
def test_only_what_draws_at_random_moves_torchs_generator(name, options):
    before = torch.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        criterion(name)(toy("encoder"), **cheap(name), **options)
        moved = not torch.equal(torch.get_rng_state(), before)
    assert moved == (name == "random" or options == {"hessian": "hutchinson"})


@pytest.mark.parametrize(
    ("name", "options"), [v for v in VARIANTS if v[0] in {"taylor", "snip", "obd", "synflow"}], ids=str
)
def test_a_frozen_or_unused_tensor_has_no_gradient(name, options):
    given = toy("perceptron")
    given.weights[0].requires_grad_(False)
    spare = torch.nn.Parameter(torch.ones(2, 2))
    more = evidence(given.model, torch.ones(4, 5), weights=[*given.weights, spare], batch_size=2)
    frozen, active, unused = scored(name, more, **options)
    assert (frozen == 0).all()
    assert (unused == 0).all()
    assert (active > 0).any()


@pytest.mark.parametrize("name", ["taylor", "snip", "grasp", "obd"])
def test_a_network_that_is_frozen_altogether(name):
    given = toy("perceptron")
    given.model.requires_grad_(False)
    assert all((score == 0).all() for score in scored(name, given))
