"""Training steps captured in a CUDA graph: the GPU launches all kernels of a step at once (train.graph=true)."""

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from prunelab.runtime.seeding import HostGenerators
from prunelab.training.loop import Training, one_by_one

WARM = 3  # steps before the capture: they create the optimizer's state and the libraries' workspaces
log = logging.getLogger(__name__)
Step = Callable[..., Tensor]


class Graph:
    """A step that is called as it is at first, then captured, and from then on replayed.

    A step is called as it is, too, where its inputs have another shape than the captured ones, as the last batch of an
    epoch has, or another key; and always if it cannot be captured, which is logged.

    Args:
        step: a function of tensors that returns a tensor, and changes other tensors in place.
        capture: returns a function that repeats a step.
    """

    def __init__(self, step: Step, capture: Callable[[Step, Sequence[Tensor]], Callable[[], Tensor]]) -> None:
        self.step, self.capture, self.calls = step, capture, 0
        self.replay: Callable[[], Tensor] | None = None
        self.inputs: list[Tensor] = []
        self.key: Hashable = None
        self.drawn: HostGenerators | None = None

    def __call__(self, *inputs: Tensor, key: Hashable = None) -> Tensor:
        """Take a step; `key` are the numbers beside the inputs that it depends on."""
        self.calls += 1
        if self.calls == WARM:
            self.drawn = HostGenerators.now()
        if self.calls == WARM + 1:
            self._try(inputs, key)
        fits = key == self.key and [x.shape for x in inputs] == [x.shape for x in self.inputs]
        if self.replay is None or not fits:
            return self.step(*inputs)
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        return self.replay().clone()

    def _try(self, inputs: Sequence[Tensor], key: Hashable) -> None:
        if self.drawn != HostGenerators.now():
            log.info("train.graph=true: the steps draw random numbers on the host; they run one kernel at a time")
            return
        self.inputs, self.key = [x.clone() for x in inputs], key
        try:
            self.replay = self.capture(self.step, self.inputs)
        except RuntimeError as error:
            why = str(error).partition("\n")[0]
            log.info("train.graph=true: a step cannot be captured (%s); steps run one kernel at a time", why)


def captured(step: Step, inputs: Sequence[Tensor]) -> Callable[[], Tensor]:
    """Return a function that repeats a step by a CUDA graph; RuntimeError if the step cannot be captured."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        output = step(*inputs)

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


@contextmanager
def capturing(optimizer: Optimizer) -> Iterator[None]:
    """Run the context in a stream of its own, as captures need it, and let Adam keep its step count on the GPU."""
    able = [group for group in optimizer.param_groups if "capturable" in group]
    before, outer, own = [group["capturable"] for group in able], torch.cuda.current_stream(), torch.cuda.Stream()
    own.wait_stream(outer)
    try:
        for group in able:
            group["capturable"] = True
        with torch.cuda.stream(own):
            yield
    finally:
        optimizer.zero_grad()  # the gradients lie in the graph's memory
        for group, value in zip(able, before, strict=True):
            group["capturable"] = value
        outer.wait_stream(own)


def graphed(training: Training, order: Sequence[Tensor]) -> None:
    """Take the steps of an epoch: those of whole batches by a CUDA graph, with the bits that they have one by one."""
    if (why := _why_not(training)) is not None:
        log.info("train.graph=true: %s; steps run one kernel at a time", why)
        one_by_one(training, order)
        return
    graph, position = Graph(training.step, captured), training.position
    assert position.losses is not None
    with capturing(training.optimizer):
        for index in order:
            training.on_batch()
            training.set_lr(training.done)
            rates = tuple(float(group["lr"]) for group in training.optimizer.param_groups)
            position.losses[position.batch] = graph(index, key=rates)
            position.batch += 1


def _why_not(training: Training) -> str | None:
    """Return why the steps of an epoch are no repetitions of one; None: they are."""
    if training.callbacks:
        return f"{type(training.callbacks[0]).__name__} acts in each step"
    if training.spec.validate_every:
        return "train.validate_every validates between steps"
    factor, done = training.lr_factor, training.done
    more = done + 1 < training.spec.iterations
    if factor is not None and more and factor(done) != factor(done + 1):  # a graph has one learning rate
        return "lr_schedule changes the learning rate at every step"
    return None
