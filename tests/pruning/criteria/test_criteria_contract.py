"""What every criterion promises, on every kind of network; the criteria are found by discovery."""

import inspect

import pytest
import torch
from toys import MODELS, evidence, local_seed, toy

from prunelab.errors import ConfigError
from prunelab.pruning import criteria
from prunelab.pruning.criteria.base import Criterion
from prunelab.pruning.lookup import choices, find
from prunelab.pruning.pruner import named_criterion
from prunelab.pruning.units import smallest

NAMES = sorted(choices(criteria))


def cheap(name):
    return {"examples": 10} if "examples" in inspect.signature(find(criteria, "criterion", name)).parameters else {}


VARIANTS = [(name, {}) for name in NAMES] + [("obd", {"hessian": "hutchinson"})]
LAYERS_ONLY = {"obs": ("perceptron", "convolutional")}  # the networks that consist of layers that it knows
every = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda value: str(value))
on_networks = pytest.mark.parametrize(
    ("name", "options", "model"),
    [(*variant, model) for variant in VARIANTS for model in LAYERS_ONLY.get(variant[0], MODELS)],
    ids=lambda value: str(value),
)


def call(name, given, **options):
    """Calls a criterion; one that records while the network is trained is given what it has recorded."""
    scorer = named_criterion(name)
    if isinstance(scorer, Criterion):
        with local_seed(1):
            scorer.load({n: torch.randn(v.shape).to(v) for n, v in zip(given.names, given.values, strict=True)})
        return scorer(given)
    return scorer(given, **cheap(name), **options)


def scored(name, given, **options):
    with local_seed(7):
        return call(name, given, **options)


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


@pytest.mark.parametrize("name", NAMES)
def test_options_are_keywords_with_defaults(name):
    options = list(inspect.signature(find(criteria, "criterion", name)).parameters.values())
    for option in options[0 if isinstance(named_criterion(name), Criterion) else 1 :]:
        assert option.kind is option.KEYWORD_ONLY
        assert option.default is not option.empty


@on_networks
def test_scores_are_ranked_as_they_come(name, options, model):
    given = toy(model)
    found = scored(name, given, **options)
    assert [score.shape for score in found] == [weight.shape for weight in given.values]
    assert not any(score.requires_grad for score in found)
    smallest(found, given.masks, 0)  # finite and ≥ 0, else it raises
    assert len(torch.cat([score.flatten() for score in found]).unique()) > 10


@pytest.mark.parametrize("name", LAYERS_ONLY)
@pytest.mark.parametrize("model", ["lstm", "attention", "encoder"])
def test_other_layers_are_refused(name, model):
    with pytest.raises(ConfigError, match=f"^{name}: .* of .* is not the weight of .*prune.exclude="):
        scored(name, toy(model))


@on_networks
def test_the_same_every_time(name, options, model):
    first, second = (scored(name, toy(model), **options) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.gpu
@on_networks
def test_a_gpu_gives_the_scores_of_the_cpu(name, options, model):
    given = toy(model, torch.float64, device="cuda")
    found, expected = scored(name, given, **options), scored(name, toy(model, torch.float64), **options)
    for one, other in zip(found, expected, strict=True):
        assert one.device.type == "cuda"
        torch.testing.assert_close(one.cpu(), other, rtol=1e-6, atol=1e-9 * float(other.max()))


@on_networks
@pytest.mark.parametrize("enabled", [True, False])
def test_no_trace_is_left(name, options, model, enabled):
    given = toy(model)
    with torch.set_grad_enabled(enabled):
        before = flags()
        scored(name, given, **options)
        assert flags() == before
    assert all(parameter.grad is None for parameter in given.model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in given.model.modules())


@on_networks
def test_whoever_calls_it_may_have_turned_gradients_off(name, options, model):
    expected = scored(name, toy(model), **options)
    with torch.no_grad():
        found = scored(name, toy(model), **options)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@every
def test_only_what_draws_at_random_moves_torchs_generator(name, options):
    before = torch.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        call(name, toy(LAYERS_ONLY.get(name, ["encoder"])[0]), **options)
        moved = not torch.equal(torch.get_rng_state(), before)
    assert moved == (name == "random" or options == {"hessian": "hutchinson"})


@pytest.mark.parametrize(
    ("name", "options"), [v for v in VARIANTS if v[0] in {"taylor", "snip", "obd", "synflow"}], ids=str
)
def test_a_frozen_or_unused_tensor_has_no_gradient(name, options):
    with local_seed(0):
        model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
        inputs = torch.randn(4, 5)
    model.register_parameter("spare", torch.nn.Parameter(torch.ones(2, 2)))
    model[0].weight.requires_grad_(False)
    more = evidence(model, inputs, weights=[model[0].weight, model[2].weight, model.spare], batch_size=2)
    frozen, active, unused = scored(name, more, **options)
    assert (frozen == 0).all()
    assert (unused == 0).all()
    assert (active > 0).any()


@pytest.mark.parametrize("name", ["taylor", "snip", "grasp", "obd"])
def test_a_network_that_is_frozen_altogether(name):
    given = toy("perceptron")
    given.model.requires_grad_(False)
    assert all((score == 0).all() for score in scored(name, given))
