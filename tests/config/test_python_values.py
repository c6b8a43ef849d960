"""Python values as overrides: Hydra's own parser reads each back as what it was."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

import prunelab
from prunelab.config.python_values import overrides

TEXTS = [
    "l1",
    "",
    " ",
    "a b",
    " a ",
    "it's",
    'say "x"',
    "a,b",
    "a=b",
    "[x]",
    "{a:1}",
    "(1)",
    "null",
    "True",
    "nan",
    "3",
]
TEXTS += [
    "1e-3",
    "a:b",
    "\\",
    "a\\'b",
    "c:\\dir\\",
    "100%",
    "#",
    "naïve ≤",
    "*.weight",
    "a;b",
    "+x",
    "~x",
    "choice(1,2)",
]
TEXTS += [
    "a/b.c-d",
    "2ep",
    "@x",
    "a|b",
    "?",
    "line\nbreak",
    "$",
    "'",
    "''",
    "\\\\",
    "inf",
    "-",
    "1_000",
    "3",
    "choice(1,2)",
]


def read_back(value: object) -> object:
    (override,) = OverridesParser.create().parse_overrides(overrides({"key": value}))
    return override.value()


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_read_as_itself(text):
    found = read_back(text)
    assert (str(found), isinstance(found, (bool, int, float))) == (text, False)
    assert found is not None


@pytest.mark.parametrize("value", [None, True, False, 0, -3, 10**20, 0.3, 1e-9, 1e30, -0.5, math.inf])
def test_scalars_keep_their_types(value):
    found = read_back(value)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ([], []),
        ((1, 2.5, None), [1, 2.5, None]),
        (["fc*.weight", "a, b"], ["fc*.weight", "a, b"]),
        ([[1], ["x"]], [[1], ["x"]]),
        ([{"match": "fc*", "amount": 0.5}], [{"match": "fc*", "amount": 0.5}]),
        ({}, {}),
        (np.float64(0.25), 0.25),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (torch.tensor(0.5), 0.5),
        (Path("a b") / "c", str(Path("a b") / "c")),
        (range(3), [0, 1, 2]),
    ],
)
def test_lists_and_others_become_lists_and_numbers(value, same):
    found = read_back(value)
    assert repr(found).replace("'", "") == repr(same).replace("'", "")


def test_a_mapping_sets_the_keys_below():
    given = {"train": {"epochs": 1, "batch_size": 8}, "seed": 2}
    assert overrides(given) == ["train.epochs=1", "train.batch_size=8", "seed=2"]


@pytest.mark.parametrize("value", [object(), 1j, torch.ones(2), len, b"x"])
def test_other_values_are_refused_in_one_line(value):
    with pytest.raises(prunelab.ConfigError, match=r"key=.*: must be None, a bool, a number, text, a list or a dict"):
        overrides({"key": value})


def test_compose_takes_both():
    config = prunelab.compose("strategy=l1", amount=0.3, rewind=None, prune={"include": ["fc*.weight"]}, compact=True)
    assert (config.strategy.name, config.amount, config.rewind) == ("l1", 0.3, None)
    assert (list(config.prune.include), config.compact) == (["fc*.weight"], True)
    with pytest.raises(prunelab.ConfigError, match="amonut"):
        prunelab.compose(amonut=0.3)
