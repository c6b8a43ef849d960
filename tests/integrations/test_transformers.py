"""The callback for the Trainer of Transformers: a tiny BERT, built from its config, is pruned while it is trained."""

from __future__ import annotations

import pytest
import torch

from prunelab.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries' own


@pytest.fixture(autouse=True, scope="module")
def _libraries():
    """Imported for these tests only, not by every worker that collects them."""
    for package in ("transformers", "accelerate"):
        pytest.importorskip(package, reason="needs the extra `transformers`", exc_type=ImportError)


SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
AMOUNTS = [0.5, 0.5]


def bert():
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, max_position_embeddings=8, hidden_dropout_prob=0.0, **SIZES)
    return BertForSequenceClassification(config)


def examples():
    generator = torch.Generator().manual_seed(1)
    return [
        {"input_ids": torch.randint(20, (6,), generator=generator), "labels": torch.tensor(number % 2)}
        for number in range(16)
    ]


def trainer(folder, steps, **how):
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from prunelab.integrations.transformers import PruningCallback

    class Seen(TrainerCallback):
        """Notes the sparsity of the pruned matrices after each step."""

        def __init__(self):
            self.found = []

        def on_step_end(self, args, state, control, **kwargs):
            self.found.append(pruning.pruner.masks.sparsity())

    pruning = PruningCallback(AMOUNTS, every=2, start=1, allocation="local", exclude=["classifier.*"], **how)
    seen = Seen()
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=0.01,
        weight_decay=0.1,
        lr_scheduler_type="constant",
        save_steps=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
    )
    return Trainer(bert(), arguments, train_dataset=examples(), callbacks=[pruning, seen]), pruning, seen


def test_it_prunes_every_so_many_steps_and_the_zeros_stay(tmp_path):
    run, pruning, seen = trainer(tmp_path, 6)
    run.train()
    assert seen.found == pytest.approx([0, 0.5, 0.5, 0.75, 0.75, 0.75])
    assert not pruning.pruner.masks.lost()
    names = [item.name for item in pruning.pruner.masks]
    assert "bert.encoder.layer.0.attention.self.query.weight" in names
    assert "classifier.weight" not in names
    assert run.model.classifier.weight.all()
    for item in pruning.pruner.masks:
        assert (item.parameter == 0).sum() == item.parameter.numel() * 3 // 4


def test_training_that_continues_from_a_checkpoint_ends_the_same(tmp_path):
    whole, expected, _ = trainer(tmp_path, 6)
    whole.train()
    assert (tmp_path / "checkpoint-2" / "pruning_masks.safetensors").exists()
    again, pruning, seen = trainer(tmp_path, 6)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert seen.found == pytest.approx([0.5, 0.75, 0.75, 0.75])
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name
    assert all(torch.equal(pruning.pruner.masks[item.name].mask, item.mask) for item in expected.pruner.masks)


def test_a_checkpoint_without_masks_is_refused(tmp_path):
    trainer(tmp_path, 4)[0].train()
    (tmp_path / "checkpoint-2" / "pruning_masks.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"resume_from_checkpoint: .*pruning_masks.safetensors is missing"):
        trainer(tmp_path, 4)[0].train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_too_short_a_training_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"the last of 2 prunings comes after 3 steps; must be less than 3"):
        trainer(tmp_path, 3)[0].train()
