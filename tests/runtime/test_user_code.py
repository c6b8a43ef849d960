"""Exceptions in a user's code: which part is at fault, and the one line that says so."""

import asyncio

import pytest
import torch
import user_parts
from odd_networks import MLP, BatchNorm
from torch import nn

from prunelab.errors import ConfigError, one_line
from prunelab.runtime.user_code import Part, UserCodeError, explained, is_users, user_code

SCORE = Part("strategy.method=user_parts.score", user_parts.score)


class Model(nn.Module):
    def forward(self, x):
        return user_parts.score(x)


class Heir(Model):
    pass


def said(parts, call):
    with pytest.raises(UserCodeError) as error, user_code(parts):
        call()
    assert error.value.__cause__ is not None  # HYDRA_FULL_ERROR shows it
    return str(error.value)


def test_the_message_has_the_key_the_class_and_the_line():
    line = user_parts.helper.__code__.co_firstlineno + 1
    message = said([SCORE], lambda: user_parts.score(None))
    assert message.startswith("strategy.method=user_parts.score: ZeroDivisionError: division by zero (")
    assert message.endswith(f"user_parts.py:{line})")


@pytest.mark.parametrize("kind", [Model, Heir])
def test_the_innermost_part_is_at_fault(kind):
    model = Part("model=M", kind, model=True)
    assert said([model, SCORE], lambda: kind()(torch.ones(1))).startswith("strategy.method=")
    assert said([model], lambda: kind()(torch.ones(1))).startswith("model=M: ZeroDivisionError")


def test_a_live_object_is_a_part():
    model = Model()
    assert said([Part("model=Model", model, model=True)], lambda: model(torch.ones(1))).startswith("model=Model: Zero")


def test_a_module_of_torch_s_in_the_network_is_the_network():
    message = said([Part("model=M", MLP, model=True)], lambda: BatchNorm()(torch.ones(2, 3)))
    assert message.startswith("model=M: RuntimeError: mat1 and mat2")


def test_what_a_backward_pass_raises_is_the_network_s():
    """As after a second step with what was kept from the first one: no line of the user's is running then."""
    out = MLP()(torch.rand(2, 1, 28, 28)).sum()
    out.backward()
    assert said([Part("model=M", MLP, model=True)], out.backward).startswith(
        "model=M: RuntimeError: Trying to backward"
    )


@pytest.mark.parametrize("error", [OSError("full"), ValueError("x"), ZeroDivisionError()])
def test_errors_outside_of_a_users_code_are_raised_as_they_are(error):
    def ours():
        exec(compile("raise error", torch.__file__, "exec"), {"__name__": "torch", "error": error})

    with pytest.raises(type(error)) as found:
        exec_in_library(ours)
    assert found.value is error


def exec_in_library(call):
    """Call it with no part of a user's: then every exception passes."""
    with user_code([]):
        call()


def test_a_config_error_and_an_interruption_pass():
    for error in (ConfigError("a=1: is wrong"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as found, user_code([SCORE]):
            raise error
        assert found.value is error


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), type("Own", (BaseException,), {})("x")])
def test_what_is_no_exception_is_a_users_mistake_too(error):
    def score(weight):
        raise error

    message = said([Part("strategy.method=mine.score", score)], lambda: score(None))
    assert message.startswith(f"strategy.method=mine.score: {type(error).__name__}")
    assert "test_user_code.py:" in message


def test_a_message_of_many_lines_is_one_line_and_not_too_long():
    with pytest.raises(ConfigError) as error, explained("key=1", "cannot"):
        raise ValueError("a\nb " * 1000)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    assert str(error.value).startswith("key=1: cannot: ValueError: a b a b")


def test_a_message_has_no_colours():
    assert (
        one_line(ValueError("\x1b[96mThis is step 3/3\x1b[0m\n of the\x1b[1;31m export"))
        == "This is step 3/3 of the export"
    )


def test_the_module_of_a_network_is_named():
    network = BatchNorm()
    with pytest.raises(ConfigError) as error, explained("model=Net", "cannot be trained", network):
        network.train()(torch.ones(1, 784))
    assert "cannot be trained: ValueError in 2 (BatchNorm1d): Expected more than 1 value" in str(error.value)
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_what_is_a_users():
    assert is_users(MLP)
    assert is_users(user_parts.score)
    assert not is_users(nn.Linear)
    assert not is_users(user_code)
