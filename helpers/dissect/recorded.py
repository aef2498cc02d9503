"""Compute once: tensors kept on disk under a key of everything that they were computed from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from helpers.run import files


def key_of(*parts: str | int | float | Tensor | nn.Module | Iterable[str]) -> str:
    """Return a short text that changes when any part does: the bytes of tensors and weights, too.

    The order and the number of the parts matter: "ab", "c" is not "a", "bc".
    """
    digest = hashlib.blake2b(digest_size=16)

    def add(kind: str, data: bytes) -> None:
        digest.update(f"{kind} {len(data)} ".encode() + data)

    for part in parts:
        match part:
            case Tensor():
                add(f"tensor {part.dtype} {tuple(part.shape)}", _bytes(part))
            case nn.Module():
                for name, value in part.state_dict().items():
                    add(f"weight {name} {value.dtype} {tuple(value.shape)}", _bytes(value))
            case str() | int() | float():
                add(type(part).__name__, str(part).encode())
            case _:
                for word in part:
                    add("word", word.encode())
                add("end", b"")
    return digest.hexdigest()


def recorded(kind: str, key: str, compute: Callable[[], Tensor]) -> Tensor:
    """Return what was recorded under the key, else compute it and record it.

    A record that can't be read is made again. Records lie in ``data/cache/dissection`` and may
    be deleted or copied to another machine.
    """
    path = files.data_folder() / "cache" / "dissection" / f"{kind}-{key}.pt"
    if path.exists():
        try:
            return torch.load(path, map_location="cpu", weights_only=True)["values"]
        except Exception:  # whatever a damaged file raises
            path.unlink(missing_ok=True)
    values = compute().contiguous()
    with files.atomic(path) as partial:
        torch.save({"values": values}, partial)
    return values


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
