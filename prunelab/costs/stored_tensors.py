"""The tensors of a network as they are stored: their numbers and their parts, also where torchao has quantized them."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor, nn


def numbers(tensor: Tensor) -> Tensor:
    """Return the tensor's numbers: dequantized, or in float32 if they have 8 bits, since torch cannot count those."""
    found: Tensor = tensor.detach().dequantize() if is_quantized(tensor) else tensor.detach()
    return found.float() if found.is_floating_point() and found.element_size() == 1 else found


def is_quantized(tensor: Tensor) -> bool:
    """Return whether the tensor consists of smaller numbers and their scales."""
    return bool(_parts(tensor))


def stored(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of the state by name; a quantized `fc1.weight` as `fc1.weight.qdata`, `fc1.weight.scale` …"""
    for name, value in model.state_dict().items():
        parts = _parts(value)
        if not parts:
            yield name, value.detach()
        for key in parts:
            yield f"{name}.{key}", getattr(value, key)


def distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors without those that are in memory under another name too."""
    return list({value.data_ptr(): value for value in tensors}.values())


def contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors contiguous and on the CPU, as safetensors wants them: where some share memory, copies."""
    found: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, value in state.items():
        tensor = value.detach().cpu().contiguous()
        whole = tensor.untyped_storage().nbytes() == tensor.nbytes
        found[name] = tensor if whole and tensor.data_ptr() not in taken else tensor.clone()
        taken.add(tensor.data_ptr())
    return found


def _parts(tensor: Tensor) -> list[str]:
    flatten: Callable[[], tuple[list[str], object]] | None = getattr(tensor, "__tensor_flatten__", None)
    return flatten()[0] if flatten else []
