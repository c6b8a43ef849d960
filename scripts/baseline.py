"""The same experiment as a plain PyTorch script: torchvision's MNIST, DataLoader, LeNet, torch.nn.utils.prune."""

from __future__ import annotations

import argparse
import json
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset, Subset, random_split
from torchvision import transforms
from torchvision.datasets import MNIST


class LeNet(nn.Module):
    """The network of prunelab.models.lenet, with ReLU and pooling in the usual order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3)
        self.conv2 = nn.Conv2d(6, 16, 3)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images [n, 1, 28, 28] → logits [n, 10]."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class Timer:
    """Seconds in the batch loops alone, and in whole epochs with their validation."""

    loop = 0.0
    epoch = 0.0


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3, help="of dense training")
    parser.add_argument("--finetune", type=int, default=1, help="epochs after each pruning")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--amount", type=float, default=0.2, help="fraction of the remaining weights pruned each round")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--workers", type=int, default=0, help="of each DataLoader")
    parser.add_argument("--threads", type=int, default=None, help="of torch; default: torch's own choice")
    parser.add_argument("--limit", type=int, default=None, help="at most so many examples of each split")
    parser.add_argument("--root", required=True, help="torchvision's MNIST folder")
    return parser.parse_args()


def loaders(args: argparse.Namespace) -> tuple[DataLoader, DataLoader, DataLoader]:
    """Return loaders of training, validation and test images, decoded and normalised one by one."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    digits = MNIST(args.root, train=True, transform=transform)
    train, validation = random_split(digits, [55_000, 5_000])
    test = MNIST(args.root, train=False, transform=transform)

    def loader(data: Dataset, batch_size: int, shuffle: bool) -> DataLoader:
        part = data if args.limit is None else Subset(data, range(min(args.limit, len(data))))
        return DataLoader(part, batch_size, shuffle=shuffle, num_workers=args.workers)

    return loader(train, args.batch_size, True), loader(validation, 1_000, False), loader(test, 1_000, False)


def train(
    model: nn.Module, epochs: int, lr: float, data: DataLoader, validation: DataLoader, name: str, timer: Timer
) -> None:
    """Train with cross-entropy; the timer measures epochs with and without validation."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        model.train()
        total = 0.0
        for images, labels in data:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        timer.loop += time.perf_counter() - start
        accuracy = evaluate(model, validation)
        timer.epoch += time.perf_counter() - start
        print(f"{name}, epoch {epoch}: loss {total / len(data.dataset):.4f}, validation {accuracy:.2%}", flush=True)


@torch.no_grad()
def evaluate(model: nn.Module, data: DataLoader) -> float:
    """Return the accuracy, in [0, 1]."""
    model.eval()
    correct = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in data)
    return correct / len(data.dataset)


def main() -> None:
    """Train, prune in rounds and fine-tune; print a line of JSON at the end."""
    args = arguments()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    data, validation, test = loaders(args)
    model, timer = LeNet(), Timer()
    weights = [(layer, "weight") for layer in model.children()]
    train(model, args.epochs, args.lr, data, validation, "dense", timer)
    test_accuracy = evaluate(model, test)
    print(f"dense: test {test_accuracy:.2%}")
    for number in range(1, args.rounds + 1):
        prune.global_unstructured(weights, prune.L1Unstructured, amount=args.amount)
        train(model, args.finetune, args.lr, data, validation, f"round {number}", timer)
        test_accuracy = evaluate(model, test)
        print(f"round {number}: test {test_accuracy:.2%}")
    zeros = sum(int((layer.weight == 0).sum()) for layer, _ in weights)
    facts = {
        "loop_seconds": timer.loop,
        "epoch_seconds": timer.epoch,
        "test_accuracy": test_accuracy,
        "sparsity": zeros / sum(layer.weight.numel() for layer, _ in weights),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
