"""Watches that no helper touches the random numbers that the reader's own code draws from.

with untouched.watched() as watched:
    ...  # calls of helpers, also by the cells of a notebook
assert not watched.touched
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import numpy as np
import torch


@dataclass
class Watched:
    """What was seen.

    Attributes:
        rooms: those of the house whose functions were called from outside.
        touched: the functions that changed a global random state, with the owner of the state.
    """

    rooms: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)


def states() -> dict[str, object]:
    """Return the state of each global generator, the card's among them where there is one."""
    drawn = np.random.get_state(legacy=False)["state"]
    found = {
        "python": hash(random.getstate()),
        "numpy": (drawn["key"].tobytes(), drawn["pos"]),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state().cpu().numpy().tobytes()
    return found


@contextmanager
def watched() -> Iterator[Watched]:
    """Compare the states before and after every call that enters the helpers from outside."""
    seen = Watched()
    entered: list[tuple[FrameType, dict]] = []  # the call that is going on, or none

    def call(frame: FrameType, _event: str, _argument: object) -> Callable | None:
        module = frame.f_globals.get("__name__", "")
        if entered or not module.startswith("helpers."):
            return None
        entered.append((frame, states()))
        seen.rooms.add(module.split(".")[1])
        frame.f_trace_lines = False
        return leave

    def leave(frame: FrameType, event: str, _argument: object) -> Callable:
        if event == "return" and entered and entered[0][0] is frame:
            before, now = entered.pop()[1], states()
            name = f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}"
            seen.touched |= {f"{name}: {owner}" for owner in now if now[owner] != before[owner]}
        return leave

    others = sys.gettrace()
    sys.settrace(call)  # cheaper than setprofile, which also hears of every call of compiled code
    try:
        yield seen
    finally:
        sys.settrace(others)
