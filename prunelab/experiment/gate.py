"""Checks on second networks before training: that one can be built again, trained, evaluated and written to files."""

import tempfile
import warnings
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunelab import exports
from prunelab.compaction import shrink
from prunelab.data.dataset import Split
from prunelab.errors import ConfigError
from prunelab.experiment.bench import Bench, Tensors, class_count
from prunelab.experiment.module_outputs import close, differs, not_finite, outputs
from prunelab.experiment.plan import prune_by_magnitude
from prunelab.exports.formats import FORMATS
from prunelab.exports.network_files import put
from prunelab.pruning.criteria.magnitude import magnitude
from prunelab.pruning.schedules import Round
from prunelab.runtime.seeding import seeded
from prunelab.runtime.user_code import describe, explained, raised_in, running
from prunelab.training.loop import EVALUATION_BATCH, train_step

FEW = 8  # examples that are evaluated, at most
SPARSE = 20  # in the trial of CSR files, one in so many weights is left


def check(bench: Bench, round: Round) -> None:
    """Raise ConfigError if the network cannot be built again, trained, evaluated, or written as the config asks.

    The network and all random generators are left as they were: a second network is trained for two steps, and a third
    one must compute the same with its weights. If the network writes on its inputs, it gets copies from here on.

    Args:
        round: the first one, by whose amount the trial of compaction prunes.
    """
    with seeded(bench.spec.seed, "gate"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network, (inputs, _) = bench.new_model(), bench.data.train.batch(slice(0, 2))
        _check_equal(bench, network)
        buffers, there = _unsaved(network), _parameters(network)
        _check_output(bench, network, inputs)
        if bench.dense_epochs or bench.spec.finetune.epochs:
            _check_training(bench, network)
        splits = (bench.data.validation, bench.data.test)
        inputs = min((_last_batch(split, EVALUATION_BATCH)[0] for split in splits), key=len)[:FEW]
        output = _check_output(bench, network, inputs, finite=False)  # a large learning rate is not the network's fault
        if _parameters(network) != there or network.state_dict().keys() != bench.initial.keys():
            new = sorted(network.state_dict().keys() - bench.initial.keys()) or ["a parameter"]
            raise ConfigError(f"{bench.name}: makes {new[0]} in its forward pass; must make it in __init__")
        _check_rebuilt(bench, network, buffers, inputs, output)
        del network
        _try_files(bench, round)


def _check_equal(bench: Bench, network: nn.Module) -> None:
    """Raise ConfigError unless a second network, built with the same seed, has the same tensors."""
    state, before, shared = network.state_dict(), bench.initial, _aliases(bench.model)
    apart = [name for name in {**before, **state} if not _same(before.get(name), state.get(name))]
    apart += [name for name, first in _aliases(network).items() if shared.get(name) != first]
    if apart:
        why = "its weights must be drawn from torch's, NumPy's or Python's default generator"
        raise ConfigError(f"{bench.name}: built twice with seed={bench.spec.seed}, {apart[0]} differs; {why}")


def _check_output(bench: Bench, model: nn.Module, inputs: Tensor, finite: bool = True) -> Tensor:
    """Evaluate a batch; raise ConfigError unless the model takes it, returns logits, and is deterministic."""
    classes, given = class_count(bench.data), f"{str(inputs.dtype).removeprefix('torch.')} {list(inputs.shape)}"
    with explained(bench.name, f"cannot take the data's {given}", model):
        output = _run(bench, model, inputs)
    wanted = f"must return logits, float32 or float64, [{len(inputs)}, {classes} or more]"
    if not isinstance(output, Tensor):
        raise ConfigError(f"{bench.name}: returns {type(output).__name__} for {len(inputs)} examples; {wanted}")
    fits = output.dim() == 2 and len(output) == len(inputs) and output.shape[1] >= classes
    if not fits or output.dtype not in (torch.float32, torch.float64):
        kind = f"{output.dtype} {list(output.shape)}".removeprefix("torch.")
        raise ConfigError(f"{bench.name}: returns {kind} for {len(inputs)} examples; {wanted}")
    if finite and not bool(output.isfinite().all()):
        where = not_finite(outputs(model, inputs))
        raise ConfigError(f"{bench.name}: its output is NaN or infinite before any training, first that of {where}")
    if not close(output, _run(bench, model, inputs)):
        where = differs(outputs(model, inputs), outputs(model, inputs))
        why = f"differs from call to call in eval mode, first that of {where}"
        raise ConfigError(f"{bench.name}: its output {why}; F.dropout needs training=self.training")
    return output


def _check_training(bench: Bench, model: nn.Module) -> None:
    """Train for two steps on the smallest batch of an epoch; raise ConfigError if that fails."""
    size = bench.spec.train.batch_size
    inputs, labels = _last_batch(bench.data.train, size)
    last = f"on the last batch of an epoch, {len(inputs)} example{'s' if len(inputs) > 1 else ''}"
    what = f"cannot be trained {last} with train.batch_size={size}"
    optimizer = bench.new_optimizer(model=model)
    before = inputs.clone()
    with running(model) as modules:
        try:
            loss = train_step(model.train(), optimizer, inputs, labels, 1, [], bench.spec.train.precision)
        except Exception as error:
            key = str(bench.spec.optimizer) if raised_in(error, Optimizer) else bench.name
            raise ConfigError(f"{key}: {what}: {describe(error, modules)}") from error
    if not bool(loss.isfinite()):
        put(model, bench.initial)  # the step has spread NaN
        where = not_finite(outputs(model, before, training=True))
        raise ConfigError(f"{bench.name}: {what}: the loss is {float(loss):g}, first the output of {where}")
    _note_writing(bench, before, inputs)
    spec = bench.spec
    held = [(name, [*vars(module).items(), *module.named_buffers()]) for name, module in model.named_modules()]
    kept = [f"{name}.{key}" for name, items in held for key, x in items if getattr(x, "grad_fn", None) is not None]
    hint = f"; keep {kept[0].strip('.')} with .detach()" if kept else ""
    with explained(bench.name, f"cannot be trained for a second step{hint}", model):  # it may have kept a graph
        train_step(model, optimizer, before.clone(), labels, 2, [], spec.train.precision)
    with explained(bench.name, "cannot be run twice in training", model):
        _check_repeated(bench, model, before)
    if spec.finish.compact or spec.reconstruct is not None or spec.criterion.target is not magnitude:
        with explained(bench.name, f"cannot be copied after a training step{hint}"):
            deepcopy(model)
    model.zero_grad(set_to_none=True)


@torch.no_grad()
def _check_repeated(bench: Bench, model: nn.Module, inputs: Tensor) -> None:
    """Raise ConfigError if the output in training depends on more than tensors of the network and what is seeded."""
    buffers, found = {name: buffer.clone() for name, buffer in model.named_buffers()}, []
    for _ in range(2):
        with seeded(bench.spec.seed, "gate", "step"):
            found.append(outputs(model, inputs, training=True))
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    network = next(reversed(found[0]))
    if not close(found[0][network], found[1][network]):
        what = f"differs from call to call in training, first that of {differs(*found)}, so that no run can be resumed"
        why = "it must draw from torch's, NumPy's or Python's default generator, and count in a persistent buffer"
        raise ConfigError(f"{bench.name}: its output {what}; {why}")


def _check_rebuilt(bench: Bench, network: nn.Module, buffers: Tensors, inputs: Tensor, output: Tensor) -> None:
    """Raise ConfigError unless a network that is built again computes the same with the weights of the given one."""
    rebuilt = bench.new_model("init" if bench.live_model is not None else "gate")  # as files are: with another seed
    rebuilt.load_state_dict(network.state_dict())
    if close(output, _run(bench, rebuilt, inputs)):
        return
    others = (_unsaved(rebuilt), _unsaved(network))  # random ones, then those that training changes
    unsaved = [name for other in others for name in buffers if not _same(buffers[name], other.get(name))]
    where = differs(outputs(network, inputs), outputs(rebuilt, inputs))
    what = f"the buffer {unsaved[0]} (persistent=False)" if unsaved else f"a value that {where} depends on"
    why = "it must be a parameter or a persistent buffer"
    raise ConfigError(f"{bench.name}: {what} is random or trained, and would not be saved; {why}")


def _try_files(bench: Bench, round: Round) -> None:
    """Compact, export and quantize the untrained network as the config asks; raise ConfigError if that fails."""
    wanted = bench.spec.finish
    kinds = [*wanted.export, *([wanted.quantize] if wanted.quantize else [])]
    if not kinds and not wanted.compact:
        return
    example, _ = bench.data.test.batch(slice(0, 4))
    with bench.pruner.undone():
        if wanted.compact and bench.layers is None:
            prune_by_magnitude(bench, round.amounts[0] if round.macs is None else 0.5)
        network = small = bench.copy()
    if wanted.compact:
        with explained("compact=true", "cannot compact this network"):
            found = shrink.compact(network, example)
            if not found.proof.agree:
                raise ConfigError(f"the compact network computes something else: {found.proof}")
            small = found.model
    for kind in kinds:
        key = f"{'quantize' if kind == wanted.quantize else 'export'}={kind}"
        model = _sparse(network) if kind == "csr" else small if FORMATS[kind].graph else network
        try:
            with explained(key, "cannot write this network"), tempfile.TemporaryDirectory() as folder:
                exports.export(model, folder, [kind], example=example)
        except ConfigError as error:
            raise ConfigError(str(error).replace(f"export={kind}", key)) from error


def _sparse(model: nn.Module) -> nn.Module:
    """Return a copy whose Linear layers are as sparse as CSR files need them."""
    made = deepcopy(model)
    for module in made.modules():
        if isinstance(module, nn.Linear):
            some = torch.arange(module.weight.numel(), device=module.weight.device) % SPARSE == 0
            module.weight.data *= some.view_as(module.weight)
    return made


def _run(bench: Bench, model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the output for a copy of the inputs in eval mode; note whether the model writes on it."""
    given = inputs.clone()
    with torch.no_grad():
        output: Tensor = model.eval()(given)
    _note_writing(bench, inputs, given)
    return output


def _note_writing(bench: Bench, before: Tensor, after: Tensor) -> None:
    if not bench.copies_inputs and not torch.equal(before.nan_to_num(), after.nan_to_num()):
        bench.copy_inputs()


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    """Return whether two tensors have the same type, shape and values; NaN is equal to NaN."""
    if one is None or other is None:
        return one is other
    one, other = one.detach().cpu(), other.detach().cpu()
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and bool(((one == other) | ((one != one) & (other != other))).all())


def _unsaved(model: nn.Module) -> Tensors:
    """Return copies of the buffers that no state dict holds."""
    saved = model.state_dict().keys()
    return {name: x.detach().clone() for name, x in model.named_buffers() if name not in saved}


def _aliases(model: nn.Module) -> dict[str, str]:
    """Return the first name of each parameter, by all its names."""
    first: dict[int, str] = {}
    names = model.named_parameters(remove_duplicate=False)
    return {name: first.setdefault(id(parameter), name) for name, parameter in names}


def _parameters(model: nn.Module) -> list[int]:
    return [id(parameter) for parameter in model.parameters()]


def _last_batch(split: Split, size: int) -> tuple[Tensor, Tensor]:
    """Return inputs and labels of the last, smallest batch of an epoch."""
    count = len(split) % size or min(size, len(split))
    return split.batch(slice(len(split) - count, len(split)))
