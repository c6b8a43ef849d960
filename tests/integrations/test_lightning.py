"""The Lightning callback: counts and times of pruning, zeros that stay, and continuing from a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunelab.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore")  # of Lightning's own


@pytest.fixture(autouse=True, scope="module")
def _library():
    """Imported for these tests only: that takes as long as torch does, in every worker that collects them."""
    pytest.importorskip("lightning.pytorch", reason="needs the extra `lightning`", exc_type=ImportError)


def pruning(*args, **how):
    from prunelab.integrations.lightning import PruningCallback

    return PruningCallback(*args, **how)


def net():
    from lightning.pytorch import LightningModule

    class Net(LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(10, 20), nn.Linear(20, 3)
            self.seen = []

        def forward(self, x):
            return self.second(self.first(x).relu())

        def training_step(self, batch, index):
            x, y = batch
            self.seen.append(int((self.first.weight == 0).sum() + (self.second.weight == 0).sum()))
            return nn.functional.cross_entropy(self(x), y)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.01, weight_decay=0.1)

    return Net()


def loader():
    torch.manual_seed(1)
    data = torch.utils.data.TensorDataset(torch.randn(32, 10), torch.randint(3, (32,)))
    return torch.utils.data.DataLoader(data, batch_size=16)


def trainer(folder, callback, epochs):
    from lightning.pytorch import Trainer

    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "logger": False}
    return Trainer(max_epochs=epochs, callbacks=[callback], default_root_dir=folder, **quiet)


def test_it_prunes_every_so_many_epochs_and_the_zeros_stay(tmp_path):
    model, callback = net(), pruning([0.5, 0.5], every=2, start=1, allocation="local")
    fitted = trainer(tmp_path, callback, 5)
    fitted.fit(model, loader())
    half, quarter = 200 // 2 + 60 // 2, 200 * 3 // 4 + 60 * 3 // 4
    assert model.seen == [0, 0, half, half, half, half, quarter, quarter, quarter, quarter]
    assert fitted.callback_metrics["sparsity"] == pytest.approx(0.75)
    assert not callback.pruner.masks.lost()
    assert set(model.state_dict()) == set(net().state_dict())


def test_training_that_continues_from_a_checkpoint_ends_the_same(tmp_path):
    def fit(folder, epochs, ckpt_path=None):
        torch.manual_seed(2)
        model, callback = net(), pruning([0.5, 0.2, 0.2], granularity="weight")
        fitted = trainer(folder, callback, epochs)
        fitted.fit(model, loader(), ckpt_path=ckpt_path)
        fitted.save_checkpoint(folder / "end.ckpt")
        return model, callback.pruner.masks

    whole, expected = fit(tmp_path / "whole", 4)
    with pytest.raises(ConfigError, match=r"the last of 3 prunings comes after 2 epochs; must be less than 2"):
        fit(tmp_path, 2)
    fit(tmp_path, 3)
    again, masks = fit(tmp_path, 4, tmp_path / "end.ckpt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert all(torch.equal(masks[item.name].mask, item.mask) for item in expected)
    assert masks.sparsity() == expected.sparsity() == pytest.approx(1 - 0.5 * 0.8 * 0.8, abs=0.01)


def test_options_reach_the_pruner(tmp_path):
    how = {"criterion": "taylor", "granularity": "channel", "data": loader(), "example": torch.zeros(1, 10)}
    model, callback = net(), pruning([0.25], **how)
    trainer(tmp_path, callback, 1).fit(model, loader())
    assert (model.first.weight == 0).all(1).sum() == 5
    assert not (model.second.weight == 0).any()  # the output layer


@pytest.mark.parametrize("how", [{"every": 0}, {"start": -1}, {"every": 1.5}])
def test_what_is_out_of_range(how):
    ((key, value),) = how.items()
    with pytest.raises(ConfigError, match=rf"{key}={value}: must be a whole number"):
        pruning([0.5], **how)
