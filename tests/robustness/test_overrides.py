"""Overrides of every kind: what an independent reading of the schema allows composes, all else is one line."""

import math

import pytest
from harness import is_full, record, sizes
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from prunelab import compose
from prunelab.config.resolve import resolve
from prunelab.errors import ConfigError

WORDS = (
    "abc",
    "true",
    "null",
    "''",
    "[]",
    "[1]",
    "{}",
    "{a:1}",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "0x1F",
    "1_000",
    "~",
    "???",
)
BROKEN = (
    "[",
    "}",
    "a b",
    "${",
    "${oc.env:HOME}",
    "${nope}",
    "=",
    "'",
    '"',
    "\\",
    "é",
    "a=b",
    ",",
    "--x",
    "@",
    "\n",
    "1 2",
)
NUMBERS = st.one_of(
    st.integers(-3, 12),
    st.integers(),
    st.floats(-2, 2).map(lambda x: round(x, 3)),
    st.floats(),
)
VALUES = st.one_of(NUMBERS.map(repr), st.sampled_from(WORDS), st.sampled_from(BROKEN), st.text(max_size=8))


def whole(low, high=math.inf, null=False):
    return lambda text: (null and text == "null") or (is_integer(text) and low <= int(text) < high)


def real(low=-math.inf, high=math.inf, open_low=False, null=False):
    def allows(text):
        if null and text == "null":
            return True
        try:
            value = float(text)
        except ValueError:
            return False
        return math.isfinite(value) and (low < value if open_low else low <= value) and value < high

    return allows


def is_integer(text):
    try:
        return str(int(text)) == text
    except ValueError:
        return False


def known(text):
    """Values whose meaning is beyond doubt; what Hydra's grammar makes of the others is its own affair."""
    return (
        is_integer(text) or text in ("abc", "null", "nan", "inf", "-inf", "[]", "[1]", "{}", "true") or is_float(text)
    )


def is_float(text):
    try:
        return repr(float(text)) == text
    except ValueError:
        return False


KEYS = {
    "seed": whole(0, 2**63),
    "amount": real(0, 1, null=True),
    "train.batch_size": whole(1),
    "finetune.epochs": whole(0),
    "threads": whole(1, null=True),
    "schedule.rounds": whole(1, 10_001),
    "optimizer.lr": real(0, open_low=True, null=True),  # null: the optimizer's own default
    "optimizer.weight_decay": real(0, null=True),
    "data.limit": whole(10, null=True),
    "strategy.count": lambda text: text == "null",  # only strategy=layer removes layers
    "device": lambda text: text in ("auto", "cpu", "cuda", "mps"),
    "reuse": lambda text: text in ("true", "false") or is_integer(text),
}
MISSPELT = (
    "amonut",
    "schedule.round",
    "optimizer.lrr",
    "train.epoch",
    "strategy.amount",
    "granularity.sise",
    "allocation.thresold",
    "model.depth",
    "prune.exlude",
)
OVERRIDES = st.tuples(st.sampled_from(list(KEYS)), VALUES)


def check(key, value):
    override = f"{key}={value}"
    try:
        compose(override)
    except ConfigError as error:
        message = str(error)
        assert "\n" not in message
        if known(value):
            assert not KEYS[key](value), f"{override} was refused: {message}"
            assert key in message
    else:
        if known(value):
            assert KEYS[key](value), f"{override} was let through"


@pytest.mark.parametrize("examples", sizes(20, 10_000))
def test_every_override_composes_or_is_refused_in_one_line(examples, request):
    seen = []

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(OVERRIDES)
    def every(override):
        check(*override)
        seen.append(override)
        if is_full(request) and len(seen) % 100 == 0:
            record("overrides", examples=len(seen), tracebacks=0, wrongly_accepted=0, wrongly_refused=0)

    every()
    assert len(seen) > examples * 0.6


@pytest.mark.parametrize("key", ["train.epochs", "finetune.epochs"])
def test_null_is_refused_where_it_means_nothing(key):
    with pytest.raises(ConfigError, match=f"{key}=null: must be a whole number of epochs"):
        compose(f"{key}=null")


@pytest.mark.parametrize("key", MISSPELT)
@pytest.mark.parametrize("sign", ["", "+"])
def test_a_misspelt_key_is_never_accepted_in_silence(key, sign):
    with pytest.raises(ConfigError, match="no such key"):
        resolve(compose(f"{sign}{key}=1"))
