"""The tour of one pruning call, on a model whose masks are known."""

import subprocess
import sys

import pytest

from prunelab import compose
from prunelab.cli.inspect import tour


def section(text, title):
    """The lines under a title, up to the next blank line."""
    return text.split(f"\n\n{title}")[1].split("\n\n")[0]


def test_before_during_and_after():
    text = tour(compose("strategy=custom", "prune.include=[fc3.bias]"))
    assert "named_parameters   weight [10, 84], bias [10]" in section(text, "before")
    during = section(text, "after custom, amount=0.5: 5 of 10 pruned in ")
    assert "named_parameters   weight [10, 84], bias_orig [10]" in during
    assert "named_buffers      bias_mask [10]" in during
    assert "_forward_pre_hooks 1" in during
    assert "tensor([0., 1., 0., 1., 0., 1., 0., 1., 0., 1.])" in during
    after = section(text, "after prune.remove: the zeros are permanent, mask and hook are gone")
    assert "named_parameters   weight [10, 84], bias [10]" in after
    assert "named_buffers      –" in after
    assert "_forward_pre_hooks 0" in after


def test_whole_channels_take_their_bias_along():
    during = section(tour(compose("strategy=ln_structured", "amount=0.5")), "after ln_structured, amount=0.5: 27 of 54")
    assert "weight_mask [6, 1, 3, 3], bias_mask [6]" in during


def test_a_model_of_your_own(tmp_path, monkeypatch):
    (tmp_path / "inspected.py").write_text(
        "from torch import nn\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self):\n        super().__init__(nn.Linear(4, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = tour(compose("model._target_=inspected.Net", "trusted=[inspected]", "amount=0.25"))
    assert text.startswith("0.weight of Net: Linear(in_features=4, out_features=2, bias=True)")
    assert "2 of 8 pruned" in text


@pytest.mark.parametrize(
    ("argument", "status", "said"), [("amount=2", 1, "amount=2.0: must be"), ("--help", 0, "override")]
)
def test_the_command(argument, status, said, tmp_path):
    command = [sys.executable, "-m", "prunelab.inspect", argument]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == status
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
