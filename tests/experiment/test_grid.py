"""Every criterion × strategy (scope, granularity) × schedule × model: the exact target, or a refusal before training.

`test_pairs` has cells with every pair of choices, of which the quick form runs an eleventh; `test_all` has all cells.
"""

import itertools
import math

import pytest
from safetensors.torch import load_file

import prunelab
from prunelab.errors import ConfigError
from prunelab.experiment import phase
from prunelab.report import read_summary

CRITERIA = (
    "magnitude",
    "random",
    "taylor",
    "snip",
    "grasp",
    "synflow",
    "obd",
    "movement",
    "wanda",
    "magnitude_increase",
    "same_sign",
)
# By scope and granularity; whether its count is exact whatever the scores say.
STRATEGIES = {
    "strategy=l1": True,
    "strategy=l1 allocation=row": True,
    "strategy=global": True,
    "strategy=ln_structured": True,
    "strategy=ln_structured granularity.dim=1": True,
    "strategy=ln_structured allocation=global": False,
    "strategy=block granularity.size=[2,2]": False,
    "strategy=block granularity.size=[4,4] allocation=global": False,
    "strategy=nm": True,
    "strategy=erk": True,
    "strategy=uniform": True,
    "strategy=lamp": True,
    "strategy=mixed": True,
}
SCHEDULES = (
    "",  # the strategy's own, or the default
    "schedule=one_shot amount=0.6",
    "schedule=iterative schedule.rounds=2 amount=0.3",
    "schedule=ramp schedule.rounds=2 amount=0.3",
    "schedule=linear schedule.rounds=2 schedule.sparsity=0.7",
    "schedule=cubic schedule.rounds=2 schedule.compression=3",
    "schedule=geometric schedule.rounds=2 schedule.sparsity=0.7",
    "schedule=gradual schedule.sparsity=0.7 schedule.every=1 schedule.prunings=3",
    "schedule=until schedule.rounds=2 amount=0.3 tolerance=1",
)
MODELS = {
    "model=lenet": "[1,28,28]",
    "model=lenet_300_100": "[1,28,28]",
    "model=conv2": "[3,4,4]",
    "model=lstm": "[1,8,8]",
    "model=vit_tiny": "[1,8,8]",
    "model=residual_lenet": "[1,28,28]",
    "model=deep_mlp": "[1,8,8]",
}


def pairwise():
    """Every criterion with every strategy; schedules and models so that every other pair is there too."""
    for (i, criterion), (j, strategy) in itertools.product(enumerate(CRITERIA), enumerate(STRATEGIES)):
        yield criterion, strategy, SCHEDULES[(i + j) % len(SCHEDULES)], list(MODELS)[(i + 3 * j) % len(MODELS)]


def test_all_pairs_are_there():
    def pairs(cells):
        return {pair for cell in cells for pair in itertools.combinations(enumerate(cell), 2)}

    assert pairs(pairwise()) == pairs(itertools.product(CRITERIA, STRATEGIES, SCHEDULES, MODELS))
    quick = list(pairwise())[::11]
    assert [set(axis) for axis in zip(*quick, strict=True)] == [*map(set, (CRITERIA, STRATEGIES, SCHEDULES, MODELS))]


def run(cell, folder):
    criterion, strategy, schedule, model = cell
    overrides = [
        *(f"criterion={criterion}", *strategy.split(), *schedule.split(), model),
        *("data=synthetic", "data.examples=100", f"data.shape={MODELS[model]}", f"outputs={folder}"),
        *("train.epochs=1", "train.batch_size=25"),
    ]
    if criterion in ("taylor", "snip", "grasp", "obd", "wanda"):
        overrides.append("criterion.examples=4")
    if criterion == "synflow":
        overrides.append("criterion.iterations=3")
    return prunelab.run(prunelab.compose(*overrides))


def refusal(cell) -> str | None:
    """What the sentence must say, if the cell cannot be."""
    _, strategy, schedule, model = cell
    if strategy == "strategy=mixed" and model in ("model=lenet_300_100", "model=lstm", "model=deep_mlp"):
        return "Conv2d|amount"  # there is none
    if strategy == "strategy=mixed" and model == "model=residual_lenet":
        return "Linear|amount"  # its only one gives the output
    if strategy in ("strategy=nm", "strategy=mixed") and schedule:
        return "amount|Linear"  # they set their own sparsity; residual_lenet has no Linear layer but its output layer
    if "ln_structured" in strategy and "compression=3" in schedule and model == "model=residual_lenet":
        return "cannot be pruned"  # more than a third: normalisation and the output layer
    return None


def check(cell, folder, monkeypatch):
    """Runs a cell: it is refused before training, or its masks only shrink and end at the plan's count."""
    trained = []
    fit = phase.fit
    monkeypatch.setattr(phase, "fit", lambda *args, **how: (trained.append(1), fit(*args, **how))[1])
    if said := refusal(cell):
        with pytest.raises(ConfigError, match=said) as caught:
            run(cell, folder)
        assert not trained
        assert "\n" not in str(caught.value)
        return
    result = run(cell, folder)
    plan = read_summary(result.folder)["plan"]
    assert all(row["exact"] for row in plan) or not STRATEGIES[cell[1]]
    masks = load_file(result.folder / "masks.safetensors")
    left = sum(int(mask.sum()) for mask in masks.values())
    assert left == plan[-1]["left"] or not plan[-1]["exact"]
    if "sparsity=0.7" in cell[2] and "ln_" not in cell[1] and "block" not in cell[1]:
        assert left / sum(mask.numel() for mask in masks.values()) == pytest.approx(0.3, abs=0.01)
    weights = result.model.state_dict()
    assert all(bool((weights[name][~mask] == 0).all()) for name, mask in masks.items())
    sparsities = [row.sparsity for row in result.rounds]
    assert sparsities == sorted(sparsities)
    assert sparsities[-1] > 0.2
    assert all(math.isfinite(row.test_loss) for row in result.rounds)


def quick(number, cell):
    """Ten of eleven cells are for the full form; the others have every choice of each axis."""
    return pytest.param(cell, marks=[pytest.mark.slow] if number % 11 else [])


@pytest.mark.parametrize(
    "cell", list(itertools.starmap(quick, enumerate(pairwise()))), ids=lambda cell: "-".join(cell).replace(" ", "_")
)
def test_pairs(cell, tmp_path, monkeypatch):
    check(cell, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_all(criterion, model, tmp_path, monkeypatch):
    for number, (strategy, schedule) in enumerate(itertools.product(STRATEGIES, SCHEDULES)):
        with monkeypatch.context() as patch:
            check((criterion, strategy, schedule, model), tmp_path / str(number), patch)
