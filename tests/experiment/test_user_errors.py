"""A user's data, criteria, methods and callbacks in a run: each failure is one line that names the key and the line."""

import shutil

import pytest
import user_parts
from torch.utils.data import TensorDataset

import prunelab
from prunelab.data.live import as_dataset

USERS = "trusted=[user_parts]"


def config(folder, *more):
    data = () if any(item.startswith("data._target_") for item in more) else ("data=synthetic", "data.examples=60")
    short = ("schedule.rounds=1", "train.batch_size=32", "train.epochs=1", "finetune.epochs=1", "latency=false")
    return [*data, *short, USERS, f"outputs={folder / 'outputs'}", *more]


def run(folder, *more):
    return prunelab.run(prunelab.compose(*config(folder, *more)))


def refusal(folder, *more):
    with pytest.raises(prunelab.ConfigError) as error:
        run(folder, *more)
    assert "\n" not in str(error.value)
    return str(error.value)


def data(name):
    return ("data._target_=user_parts." + name,)


@pytest.mark.parametrize("name", ["one_set", "two_sets", "int32", "uint8", "boolean"])
def test_torch_data_sets_and_whole_labels_of_any_type_work(name, tmp_path):
    result = run(tmp_path, *data(name))
    assert result.rounds[-1].test_accuracy >= 0


def test_one_set_is_divided_in_equal_proportions():
    made = as_dataset(TensorDataset(user_parts.images(100), user_parts.labels(100)))
    assert [len(made.train), len(made.validation), len(made.test)] == [81, 9, 10]
    assert sorted(made.test.labels.tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("column", r"the train split: labels are torch.int64 [60, 1]; must be whole numbers [60]; labels.flatten()"),
        ("one_hot", "labels are torch.float32 [60, 10]"),
        ("float_labels", "labels are torch.float32 [60]; must be whole numbers [60]"),
        ("negative", "labels begin at -1; must be 0, 1, 2 …"),
        ("from_one", "labels are 1 to 10; must be whole numbers from 0 to …"),
        ("more_classes_than_said", "labels are 0 to 9; must be whole numbers from 0 to 4"),
        ("no_validation", "the validation split: has no examples"),
        ("other_shape", "the test split has examples of shape [1, 32, 32]; must be [1, 28, 28]"),
        ("other_shape_than_said", "the train split has examples of shape [1, 28, 28]; must be [3, 28, 28]"),
        ("arrays", "the train split: inputs are a ndarray; must be a torch.Tensor"),
        ("Varying", "Varying: must give pairs (input tensor, whole number) of one shape: RuntimeError: stack expects"),
        ("Failing", "Failing: must give pairs (input tensor, whole number) of one shape: KeyError: 'image' ("),
        ("WithoutLength", "TypeError: object of type 'WithoutLength' has no len()"),
        ("Stream", "TypeError: object of type 'Stream' has no len()"),
        ("no_such_file", "FileNotFoundError: [Errno 2] No such file or directory: '/there/is/no/such/file' ("),
        ("labels", "TypeError: labels() missing 1 required positional argument: 'count'"),
    ],
)
def test_other_data_are_refused_before_the_model_is_blamed(name, said, tmp_path):
    message = refusal(tmp_path, *data(name))
    assert message.startswith((f"data._target_=user_parts.{name}: ", "data.count=null"))
    assert said in message or name == "labels"


@pytest.mark.parametrize(("name", "kind"), [("double_images", "float64"), ("integers", "int64")])
def test_inputs_that_the_network_cannot_take_are_named(name, kind, tmp_path):
    assert f"cannot take the data's {kind} [2, 1, 28, 28]: RuntimeError in conv1 (Conv2d)" in refusal(
        tmp_path, *data(name)
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fails", "KeyError: 'x' ("),
        ("flat", "gives [54] scores for conv1.weight [6, 1, 3, 3]"),
        ("nothing", "must return 5 tensors of scores"),
        ("too_few", "must return 5 tensors of scores"),
        ("not_a_number", "scores must be finite and ≥ 0"),
        ("fails_later", "KeyError: 'x' ("),
        ("nothing_later", "must return 5 tensors of scores"),
        ("not_a_number_later", "scores must be finite and ≥ 0"),
    ],
)
def test_a_criterion_that_fails_is_named_before_training_and_after(name, said, tmp_path):
    message = refusal(tmp_path, f"criterion._target_=user_parts.{name}")
    assert message.startswith(f"criterion._target_=user_parts.{name}: ")
    assert said in message


@pytest.mark.parametrize(("name", "said"), [("score", "ZeroDivisionError: "), ("Method", "RuntimeError: no")])
def test_a_pruning_method_that_fails_is_named(name, said, tmp_path):
    message = refusal(tmp_path, "strategy=custom", f"strategy.method=user_parts.{name}")
    assert message.startswith(f"strategy.method=user_parts.{name}: ")
    assert said in message
    assert "user_parts.py:" in message


@pytest.mark.parametrize("part", ["regularizer", "sparse_training"])
@pytest.mark.parametrize(
    "name", ["Raises", "ObjectiveOfNothing", "ObjectiveOfMany", "SubstituteOfNothing", "SubstituteOfOtherShape"]
)
def test_a_callback_that_fails_is_named(part, name, tmp_path):
    message = refusal(tmp_path, f"+{part}._target_=user_parts.{name}")
    key = f"{part}._target_=user_parts.{name}: ArithmeticError (" if name == "Raises" else f"callback={name}: its"
    assert message.startswith(key)


def test_a_generator_that_a_user_ends_is_named(tmp_path):
    message = refusal(tmp_path, "+regularizer._target_=user_parts.EndsGenerators")
    assert message.startswith("regularizer._target_=user_parts.EndsGenerators: RuntimeError: generator raised")
    assert "user_parts.py:" in message


def failing_late(folder):
    shutil.copy(user_parts.__file__, folder)
    more = ("+sparse_training._target_=user_parts.RaisesInRoundThree", "schedule.rounds=3")
    return config(folder, *more, f"hydra.run.dir={folder / 'run'}")


def test_what_was_trained_before_a_callback_failed_stays(tmp_path, cli):
    done = cli(*failing_late(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    key = "sparse_training._target_=user_parts.RaisesInRoundThree"
    assert line.startswith(f"prunelab: {key}: ValueError: in round 3 (")
    assert "user_parts.py:" in line
    assert len((tmp_path / "run" / "rounds.csv").read_text().splitlines()) == 4  # head, dense, two rounds


@pytest.mark.slow
def test_the_whole_traceback_is_shown_on_request(tmp_path, cli):
    done = cli(*failing_late(tmp_path), cwd=tmp_path, env={"HYDRA_FULL_ERROR": "1"}, flags=())
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert 'raise ValueError("in round 3")' in done.stderr


def test_a_file_that_cannot_be_imported_is_named_with_its_line(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name, text, said in (
        ("half_a_file", "x = 1\nclass Net(:\n", "SyntaxError: invalid syntax"),
        ("fails_at_once", "\n\nclass Net:\n    x = {}['y']\n", "KeyError: 'y'"),
        ("ends_at_once", "import sys\n\n\nsys.exit('no')\n", "SystemExit: no"),
    ):
        (tmp_path / f"{name}.py").write_text(text)
        message = refusal(tmp_path, f"model._target_={name}.Net", f"trusted=[{name}]")
        assert message.startswith(f"model._target_={name}.Net: cannot be imported: {said}")
        assert message.endswith((f"{name}.py:2)", f"{name}.py:4)"))
