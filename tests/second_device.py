"""A graphics card without a graphics card: tensors that live "there", and the rules of a border.

    with second_device.card():
        classifier.to("cuda")  # or models.best_device(): there is a card now
        classifier.network(images)  # RuntimeError: images are still on this side

A tensor on the card says ``device="cuda:0"`` and keeps its numbers in an ordinary tensor, which
nobody else sees; every operation is done there. What CUDA refuses is refused: an operation on
tensors of both sides, and ``.numpy()`` of one over there, which PyTorch itself forbids by the name
of the device. What CUDA allows goes through: single numbers (tensors without dimensions) of this
side among tensors of the card, indices of this side into tensors of the card, copies, ``.cpu()``,
``.tolist()`` and ``.item()``. Gradients, autocast and hooks work as they do anywhere.

It rehearses the rules, not the card: kernels, speed, memory and rounding are the CPU's own.
PyTorch's ``FakeTensorMode`` knows such rules too, but computes no numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

CARD = torch.device("cuda:0")
_aten = torch.ops.aten
_COPIES = {_aten._to_copy, _aten.copy_, _aten.copy}  # these may cross the border
_INDEXING = {_aten.index, _aten._unsafe_index, _aten.index_put, _aten.index_put_}
_IN_PARTS = torch._C.DispatchKey.CompositeImplicitAutograd
_JOINS = {_aten.cat, _aten.stack}  # these take no single numbers of the other side


class OnCard(Tensor):
    """A tensor that says it is on the card; its numbers are in ``here``, an ordinary tensor."""

    @staticmethod
    def __new__(cls, here: Tensor) -> OnCard:
        """Put a tensor on the card."""
        # Below Python it is of the device "meta": autograd would ask a real card for its streams.
        with torch.inference_mode(here.is_inference()):
            card = Tensor._make_wrapper_subclass(
                cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype,
                device="meta",
            )  # fmt: skip
        card.here = here
        return card

    device, is_cuda, is_meta, is_cpu = CARD, True, False, False
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        """Do one operation: check who meets, compute on this side, put the result where it is."""
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        cards = [t for t in tensors if isinstance(t, OnCard)]
        wanted, packet = kwargs.get("device"), func.overloadpacket
        if func.has_kernel_for_dispatch_key(_IN_PARTS):  # only in inference mode they come whole
            with _Border():
                return func.decompose(*args, **kwargs)
        if wanted is not None:
            kwargs["device"] = torch.device("cpu") if _is_card(wanted) else torch.device(wanted)
        if cards and torch.Tag.inplace_view in func.tags:  # squeeze_: the face changes, too
            with torch.utils._mode_utils.no_dispatch():
                func(*args, **kwargs)
        if cards and packet not in _COPIES:
            _check(func, args, tensors)
        generator = kwargs.get("generator")
        if generator is not None and (cards or _is_card(wanted)):
            raise RuntimeError(
                f"Expected a 'cuda' generator for {func}, found '{generator.device}'"
            )
        given = {id(t.here): t for t in cards}
        drawn = torch.Tag.nondeterministic_seeded in func.tags and (cards or _is_card(wanted))
        with _own_lot() if drawn else nullcontext():
            result = func(*_here(args), **_here(kwargs))
        there = _is_card(wanted) if wanted is not None else bool(cards)
        if packet in _COPIES and packet is not _aten._to_copy:
            there = isinstance(args[0], OnCard)
        if not there:
            return result
        # An operation in place returns what it was given; a new tensor gets a new face.
        return tree_map_only(
            Tensor, lambda t: given[id(t)] if id(t) in given else OnCard(t), result
        )

    # What CUDA does, where PyTorch does something else with a class of one's own.
    def numpy(self, *, force: bool = False):
        """Refuse, in CUDA's words."""
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the "
            "tensor to host memory first."
        )

    def tolist(self):
        """Return numbers, which may cross the border."""
        return self.detach().cpu().tolist()

    def __format__(self, spec: str) -> str:
        """Write a single number as Python writes it."""
        return format(self.item() if self.ndim == 0 else repr(self), spec)

    def __reduce_ex__(self, protocol):
        """Go to another process, which has no card, as an ordinary tensor."""
        return self.here.__reduce_ex__(protocol)

    # These two tell Module.to that a parameter has to be swapped for the one on the card.
    def __tensor_flatten__(self):
        return ["here"], None

    @staticmethod
    def __tensor_unflatten__(inner, _context, _size, _stride):
        return OnCard(inner["here"])


class _Border(TorchDispatchMode):
    """Sees the operations on tensors of this side, too: factories, and copies to the card."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return OnCard.__torch_dispatch__(func, types, args, kwargs)


class _Words(TorchFunctionMode):
    """Puts into other words what would ask a real card, or read numbers past the border."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        on_card = bool(args) and isinstance(args[0], OnCard)
        if func is Tensor.cuda:
            func, args, kwargs = Tensor.to, (args[0], CARD), {}
        if func is Tensor.to:  # "cuda" without a number
            args, kwargs = tree_map_only((str, torch.device), _numbered, (args, kwargs))
        elif func is Tensor.new_tensor and on_card:
            func, kwargs = torch.tensor, {"dtype": args[0].dtype, "device": CARD} | kwargs
            args = args[1:]
        elif func in (Tensor.__getitem__, Tensor.__setitem__) and on_card:
            args = (args[0], _indices(args[1]), *args[2:])
        if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor):
            args = tree_map_only(OnCard, Tensor.item, args)
        return func(*args, **kwargs)


def _numbered(device: str | torch.device) -> torch.device:
    return CARD if _is_card(device) else torch.device(device)


def _indices(index: object) -> object:
    """Make tensors of lists and arrays among indices: such may be of this side."""
    if isinstance(index, tuple):
        return tuple(map(_indices, index))
    return torch.as_tensor(index) if isinstance(index, list | np.ndarray) else index


def _is_card(device: object) -> bool:
    return device is not None and torch.device(device).type in ("cuda", "meta")


def _here(tree: object) -> object:
    return tree_map_only(OnCard, lambda t: t.here, tree)


def _check(func, args: tuple, tensors: list[Tensor]) -> None:
    """Refuse what CUDA refuses, an operation among whose tensors one is on the card."""
    packet = func.overloadpacket
    if packet in _INDEXING and isinstance(args[0], OnCard):
        indices = {id(t) for t in tree_leaves(args[1])}
        tensors = [t for t in tensors if id(t) not in indices]
    written = {
        id(arg) for arg, about in zip(args, func._schema.arguments, strict=False) if about.is_write
    }
    for t in tensors:
        single = t.ndim == 0 and packet not in _JOINS and id(t) not in written
        if not isinstance(t, OnCard) and not single:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"cuda:0 and cpu! ({func}, a tensor {list(t.shape)} on the cpu)"
            )


_lot: list[Tensor] = []  # the state of the card's own random numbers


def _seed(seed: int) -> None:
    _lot[:] = [torch.Generator().manual_seed(seed + 1).get_state()]  # others than on this side


@contextmanager
def _own_lot() -> Iterator[None]:
    """Draw as the card does: from random numbers of its own, which ``torch.manual_seed`` seeds."""
    before = torch.get_rng_state()
    torch.set_rng_state(_lot[0])
    yield
    _lot[:] = [torch.get_rng_state()]
    torch.set_rng_state(before)


def _says(value: object) -> Callable[..., object]:
    return lambda *_args, **_kwargs: value


@contextmanager
def card() -> Iterator[torch.device]:
    """Plug the card in: inside the block ``torch.cuda.is_available()``, and devices are minded."""
    answers = {
        "is_available": True, "is_bf16_supported": True, "is_current_stream_capturing": False,
        "_lazy_init": None, "device_count": 1, "current_device": 0, "synchronize": None,
        "get_device_capability": (9, 0), "reset_peak_memory_stats": None, "memory_allocated": 0,
        "max_memory_allocated": 1 << 20,
    }  # fmt: skip
    replaced = {name: _says(value) for name, value in answers.items()} | {
        "manual_seed_all": _seed, "manual_seed": _seed,
        "get_rng_state": lambda device=None: _lot[0].clone(),
        "set_rng_state": lambda state, device=None: _lot.__setitem__(0, state.clone()),
    }  # fmt: skip
    _seed(20)
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=…) passes the border, too
    try:
        with (
            mock.patch.multiple(torch.cuda, **replaced),
            mock.patch.object(torch.accelerator, "current_accelerator", _says(None)),
            _Border(),
            _Words(),
        ):
            yield CARD
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)
