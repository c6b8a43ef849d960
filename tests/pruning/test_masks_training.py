"""Masks in training: pruned weights stay zero whatever changes weights, and kept weights keep their bits."""

import copy
import gc
import io
import pickle

import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from networks_to_prune import NETWORKS, SIZE, Cosine, Tied, Twins, batch, drawn, mlp, spectral, train, weight_normed
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.optim.swa_utils import AveragedModel

from prunelab.models.lenet import LeNet
from prunelab.pruning.masks import Masks
from prunelab.pruning.prunable import select
from prunelab.pruning.pruner import Pruner

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "fused sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, fused=True),
    "fused adam": lambda p: torch.optim.Adam(p, 0.01, fused=True),
    "foreach adam": lambda p: torch.optim.Adam(p, 0.01, foreach=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9),
    "rprop": lambda p: torch.optim.Rprop(p, 0.01),
}
every_network = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)


def halved(build, **how):
    """A network of which half of the weights are pruned, and its masks."""
    model = drawn(build)
    pruner = Pruner(model, allocation="local", **how)
    pruner.prune(0.5)
    return model, pruner.masks


def zeros(model):
    return {name: p.detach() == 0 for name, p in model.named_parameters()}


def assert_zero(masks):
    assert masks.lost() == []
    assert all(bool((item.parameter[~item.kept] == 0).all()) for item in masks)
    assert any(bool((~item.kept).any()) for item in masks)


@every_network
def test_gradients_of_pruned_weights_are_zero_and_the_others_are_the_plain_network_s(build):
    model, masks = halved(build)
    plain = copy.deepcopy(model)
    for times in (1, 2):  # gradients add up over two backward passes
        inputs, labels = batch(times)
        for network in (model, plain):
            F.cross_entropy(network(inputs), labels).backward()
        gradients = {name: p.grad for name, p in plain.named_parameters()}
        assert any(bool(gradients[item.name][~item.kept].any()) for item in masks)
        for item in masks:
            assert torch.equal(item.parameter.grad, gradients[item.name] * item.kept), item.name


@every_network
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_optimizer_moves_a_pruned_weight(build, optimizer):
    model, masks = halved(build)
    before = {item.name: item.parameter.detach().clone() for item in masks}
    train(model, OPTIMIZERS[optimizer](model.parameters()))
    assert_zero(masks)
    for item in masks:
        assert not torch.equal(item.parameter, before[item.name])
        assert masks.counts()[0] == sum(int(torch.count_nonzero(item.mask)) for item in masks)


def test_momentum_from_before_the_pruning_moves_nothing():
    model = drawn(mlp)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    train(model, optimizer)
    pruner = Pruner(model, allocation="local")
    pruner.prune(0.5)
    train(model, optimizer)
    assert_zero(pruner.masks)


def test_gradients_that_are_written_by_hand_move_nothing():
    model, masks = halved(mlp)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert_zero(masks)


def test_lbfgs_moves_no_pruned_weight():
    model, masks = halved(mlp)
    inputs, labels = batch()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert_zero(masks)


def test_a_parameter_that_was_frozen_at_first_is_masked_too():
    model = drawn(mlp)
    model[0].weight.requires_grad_(False)
    pruner = Pruner(model, allocation="local")
    pruner.prune(0.5)
    model[0].weight.requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    train(model, optimizer, 1)
    assert_zero(pruner.masks)
    optimizer.zero_grad()
    inputs, labels = batch()
    F.cross_entropy(model(inputs), labels).backward()
    assert not model[0].weight.grad[~pruner.masks["0.weight"].kept].any()


def test_clipping_sees_only_the_gradients_of_kept_weights():
    model, masks = halved(mlp)
    inputs, labels = batch()
    F.cross_entropy(model(inputs), labels).backward()
    plain = copy.deepcopy(model)
    F.cross_entropy(plain(inputs), labels).backward()
    kept = {item.name: item.kept for item in masks}
    expected = torch.cat([(p.grad * kept.get(n, 1)).flatten() for n, p in plain.named_parameters()]).norm()
    torch.testing.assert_close(nn.utils.clip_grad_norm_(model.parameters(), 1.0), expected)


# The bits of torch.nn.utils.prune's weight_orig · weight_mask


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_kept_weights_have_the_bits_of_torch_s_masked_training(optimizer):
    mine = drawn(LeNet)
    theirs = copy.deepcopy(mine)
    pruner = Pruner(mine)
    pruner.prune(0.7)
    modules = dict(theirs.named_modules())
    for item in pruner.items:
        prune.custom_from_mask(modules[item.name.rpartition(".")[0]], "weight", item.mask)
    generator = torch.Generator().manual_seed(0)
    for model in (mine, theirs):
        generator.manual_seed(0)
        how = {"sgd": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9), "adam": lambda p: torch.optim.Adam(p, 0.001)}
        steps = how[optimizer](model.parameters())
        for _ in range(20):
            inputs = torch.rand(16, 1, 28, 28, generator=generator)
            labels = torch.randint(10, (16,), generator=generator)
            steps.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            steps.step()
    for item in pruner.items:
        module = modules[item.name.rpartition(".")[0]]
        assert torch.equal(item.parameter[item.kept], module.weight_orig[item.kept])
        assert torch.equal(item.parameter, module.weight_orig * module.weight_mask)
    assert torch.equal(mine.fc3.bias, theirs.fc3.bias)


# Loading, copying, storing


@every_network
@pytest.mark.parametrize("how", [{}, {"strict": False}, {"assign": True}])
def test_load_state_dict_keeps_zeros(build, how):
    model, masks = halved(build)
    names = [item.name for item in masks]
    model.load_state_dict({k: torch.ones_like(v) for k, v in model.state_dict().items()}, **how)
    assert_zero(masks)
    assert [item.name for item in masks] == names
    parameters = dict(model.named_parameters())
    assert all(item.parameter is parameters[item.name] for item in masks)
    assert all(bool((item.parameter[item.kept] == 1).all()) for item in masks)
    train(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
    assert_zero(masks)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", ["emb", "dec"])
def test_loading_one_owner_of_a_shared_parameter_keeps_zeros_and_the_sharing(name, assign):
    model, masks = halved(Tied)
    model.get_submodule(name).load_state_dict({"weight": torch.ones(8, 4)}, assign=assign)
    assert_zero(masks)
    assert model.emb.weight is model.dec.weight is masks["emb.weight"].parameter
    assert bool((model.emb.weight[masks["emb.weight"].kept] == 1).all())


def test_loading_a_part_leaves_the_rest():
    model, masks = halved(mlp)
    before = model[2].weight.detach().clone()
    model.load_state_dict({"0.weight": torch.ones(5, 6)}, strict=False)
    assert_zero(masks)
    assert torch.equal(model[2].weight, before)


@every_network
def test_a_deep_copy_is_a_plain_network_of_its_own(build):
    model, masks = halved(build)
    copied = copy.deepcopy(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in copied.state_dict().items())
    inputs, labels = batch()
    assert torch.equal(copied(inputs), model(inputs))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in copied.modules())
    copied.load_state_dict({k: torch.ones_like(v) for k, v in copied.state_dict().items()})
    assert all(bool((p == 1).all()) for p in copied.parameters())
    F.cross_entropy(copied(inputs), labels).backward()
    assert all(p.grad is None for p in model.parameters())
    train(copied, torch.optim.SGD(copied.parameters(), 0.1))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert_zero(masks)


@every_network
@pytest.mark.parametrize("through", ["pickle", "torch.save"])
def test_a_model_is_stored_whole_without_its_masks(build, through):
    model, masks = halved(build)
    if through == "pickle":
        loaded = pickle.loads(pickle.dumps(model))  # noqa: S301
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
    state = loaded.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    loaded.load_state_dict({k: torch.ones_like(v) for k, v in state.items()})
    assert all(bool((p == 1).all()) for p in loaded.parameters())
    assert_zero(masks)


# Other ways to train


def test_a_compiled_model_trains_under_its_masks():
    model, masks = halved(mlp)
    twin, _ = halved(mlp)
    compiled = torch.compile(model, backend="eager")
    for network, parameters in ((compiled, model), (twin, twin)):
        train(network, torch.optim.SGD(parameters.parameters(), 0.1, momentum=0.9))
    assert_zero(masks)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


def test_two_pruned_copies_run_under_vmap():
    models = [halved(mlp)[0], drawn(mlp, seed=1)]
    Pruner(models[1], allocation="local").prune(0.7)
    parameters, buffers = torch.func.stack_module_state(models)
    inputs, _ = batch()

    def call(parameters, buffers):
        return torch.func.functional_call(models[0], (parameters, buffers), (inputs,))

    outputs = torch.func.vmap(call)(parameters, buffers)
    for output, model in zip(outputs, models, strict=True):
        torch.testing.assert_close(output, model(inputs))


def test_distributed_data_parallel_trains_under_its_masks(tmp_path):
    model, masks = halved(mlp)
    twin, _ = halved(mlp)
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        train(parallel, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
    finally:
        torch.distributed.destroy_process_group()
    train(twin, torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9))
    assert_zero(masks)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_scaled_loss_trains_under_its_masks():
    model, masks = halved(mlp)
    scaler, optimizer = torch.amp.GradScaler("cpu"), torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(3):
        inputs, labels = batch(step)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(inputs), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert_zero(masks)


def test_optimizer_steps_within_the_backward_pass_move_no_pruned_weight():
    model, masks = halved(mlp)
    for parameter in model.parameters():
        one = torch.optim.SGD([parameter], 0.1, momentum=0.9)

        def step(parameter, one=one):
            one.step()
            one.zero_grad()

        parameter.register_post_accumulate_grad_hook(step)
    inputs, labels = batch()
    for _ in range(2):
        F.cross_entropy(model(inputs), labels).backward()
    assert_zero(masks)


def test_an_average_over_weights_tells_what_came_back():
    """Of weights from before the pruning something is left in the average; of those from after it nothing is."""
    model = drawn(mlp)
    early = AveragedModel(model, avg_fn=lambda average, now, count: (average + now) / 2)
    early.update_parameters(model)
    pruner = Pruner(model, allocation="local")
    pruner.prune(0.5)
    late = AveragedModel(model, avg_fn=lambda average, now, count: (average + now) / 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        train(model, optimizer)
        for average in (early, late):
            average.update_parameters(model)
    for average, lost in ((early, ["0.weight", "2.weight"]), (late, [])):
        of_average = Masks(average.module)
        of_average.load(pruner.masks.state())
        assert of_average.lost() == lost
        of_average.apply()
        assert of_average.lost() == []
    assert_zero(pruner.masks)


# Weights that are shared, read by others, or computed


def test_a_shared_parameter_makes_one_step():
    model, masks = halved(Twins)
    before, inputs = model.b.weight.detach().clone(), batch()
    F.cross_entropy(model(inputs[0]), inputs[1]).backward()
    gradient = model.b.weight.grad.clone()
    torch.optim.SGD(model.parameters(), 0.1).step()
    torch.testing.assert_close(model.b.weight, before - 0.1 * gradient)
    assert model.c.weight is model.b.weight
    assert sum(1 for item in masks if item.parameter is model.c.weight) == 1


def test_a_weight_that_is_read_without_its_layer_is_pruned():
    model, masks = halved(Cosine)
    inputs, _ = batch()
    weight = model.head.weight.detach() * masks["head.weight"].mask
    expected = 10 * F.linear(F.normalize(torch.relu(model.body(inputs))), F.normalize(weight))
    torch.testing.assert_close(model(inputs), expected)


class Cube(nn.Module):
    def forward(self, x):
        return x**3


def new_spectral():
    return parametrizations.spectral_norm(nn.Linear(SIZE, 5))


def cubed():
    layer = nn.Linear(SIZE, 5)
    parametrize.register_parametrization(layer, "weight", Cube())
    return layer


@pytest.mark.parametrize(
    ("build", "include"),
    [
        (lambda: nn.Sequential(spectral(), nn.Linear(5, 3)), "0.weight_orig"),
        (lambda: nn.Sequential(weight_normed(), nn.Linear(5, 3)), "0.parametrizations.weight.original1"),
        (lambda: nn.Sequential(new_spectral(), nn.Linear(5, 3)), "0.parametrizations.weight.original"),
        (lambda: nn.Sequential(cubed(), nn.Linear(5, 3)), "0.parametrizations.weight.original"),
    ],
    ids=["spectral_norm", "weight_norm", "the newer spectral_norm", "a function of the user's"],
)
def test_a_computed_weight_is_pruned_through_what_it_is_computed_from(build, include):
    model = drawn(build)
    twin = copy.deepcopy(model)
    masks = Masks(model)
    masks.add(select(model, [include]))
    for network in (model, twin):  # masks of ones change nothing
        train(network, torch.optim.SGD(network.parameters(), 0.1, momentum=0.9))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))
    masks.detach()
    pruner = Pruner(model, include=[include], allocation="local")
    pruner.prune(0.5)
    train(model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))
    assert_zero(pruner.masks)
    model(batch()[0])
    assert int((model[0].weight == 0).sum()) == 15
    assert bool((model[0].weight[~pruner.items[0].kept] == 0).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_train_under_their_masks_with_exact_counts(dtype):
    model = drawn(lambda: nn.Sequential(nn.Linear(784, 97), nn.ReLU(), nn.Linear(97, 10))).to(dtype)
    pruner = Pruner(model)
    pruner.prune(0.3)
    size = 784 * 97 + 970
    assert pruner.masks.counts() == (size - round(0.3 * size), size)
    assert pruner.masks["0.weight"].mask.dtype == dtype
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 784).to(dtype)).float().square().sum().backward()
        optimizer.step()
    assert_zero(pruner.masks)


@pytest.mark.parametrize("allocation", ["local", "global", "lamp", "erk"])
def test_a_network_of_several_types_loses_as_many_weights_as_asked(allocation):
    kinds = (torch.float16, torch.float64, torch.bfloat16, torch.complex64)
    model = nn.Sequential(*(nn.Linear(40, 30, bias=False, dtype=kind) for kind in kinds))
    for weight in model.parameters():
        nn.init.uniform_(weight, 1, 2)  # torch 2.11 draws zeros by default, which count as pruned
    Pruner(model, allocation=allocation).prune(0.3)
    assert sum(int(torch.count_nonzero(weight)) for weight in model.parameters()) == 4 * 1200 - round(0.3 * 4 * 1200)


def test_training_goes_on_after_a_move_to_another_type():
    model, masks = halved(mlp)
    model.double()
    inputs, labels = batch()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(2):
        F.cross_entropy(model(inputs.double()), labels).backward()
        optimizer.step()
    assert_zero(masks)
    assert {item.mask.dtype for item in masks} == {torch.float64}


def test_masks_that_are_collected_during_a_step_do_not_disturb_it():
    """The garbage collector may free another network's masks while an optimizer calls the hooks of all optimizers."""
    handle = register_optimizer_step_post_hook(lambda *_: (rest.clear(), gc.collect()))
    rest = [Masks(nn.Linear(2, 2)) for _ in range(3)]
    model = nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    try:
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    finally:
        handle.remove()
    assert not rest
