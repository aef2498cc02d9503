"""What a call costs: wall time and peak memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import psutil
import torch

Result = TypeVar("Result")
_INTERVAL = 0.002  # seconds between two looks at the memory


class Cost(NamedTuple):
    """Wall time in seconds, and how far memory rose above where it was, in MiB."""

    seconds: float
    peak: float


def measure(call: Callable[[], Result]) -> tuple[Result, Cost]:
    """Run a call, and return its result and its cost.

    Memory is the GPU's where there is one, else the resident memory of this process, looked at
    every two milliseconds: right to a few MiB, enough to compare methods. What earlier calls
    have freed is given back to the system first.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before, start = torch.cuda.memory_allocated(), time.perf_counter()
        result = call()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        return result, Cost(seconds, (torch.cuda.max_memory_allocated() - before) / 2**20)

    with contextlib.suppress(OSError, AttributeError):  # not every system has glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(_INTERVAL):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    try:
        result = call()
    finally:
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    return result, Cost(seconds, (peak - before) / 2**20)
