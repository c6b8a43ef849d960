"""A model that returns anything but logits is refused before training."""

import pytest
from conftest import composed

import prunelab
from prunelab.errors import ConfigError
from prunelab.training import loop


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("(y, y)", "returns tuple for 2 examples"),
        ("{'y': y}", "returns dict"),
        ("None", "returns NoneType"),
        (
            "y[:, :7]",
            r"returns float32 \[2, 7\] for 2 examples; must return logits, float32 or float64, \[2, 10 or more\]",
        ),
        ("y[:, :, None]", r"returns float32 \[2, 10, 1\]"),
        ("y.argmax(1)", r"returns int64 \[2\]"),
        ("y.half()", r"returns float16 \[2, 10\]"),
    ],
)
def test_a_model_that_gives_no_logits_is_refused_before_training(output, said, tmp_path, monkeypatch):
    name = f"odd_output_{abs(hash(output))}"
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n\nclass Odd(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.fc = nn.Linear(784, 10)\n\n"
        f"    def forward(self, x):\n        y = self.fc(x.flatten(1))\n        return {output}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(loop, "train_step", lambda *args, **how: pytest.fail("trained"))
    with pytest.raises(ConfigError, match=rf"model\._target_={name}\.Odd: {said}"):
        prunelab.run(composed(tmp_path, f"model._target_={name}.Odd", f"trusted=[{name}]"))
