"""What a call costs: wall time and peak memory, and whether it had the machine to itself."""

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
_TICKS = 0.03  # seconds; processor time is counted in hundredths, and rounded for each count

# From this share of one core on, other work may have made a call slower. A quiet system's own
# programs take less.
DISTURBING = 0.2


class Cost(NamedTuple):
    """What a call took, and what else the machine did meanwhile."""

    seconds: float  # wall time
    peak: float  # how far memory rose above where it was, in MiB
    others: float = 0.0  # processor time that other programs used, as a share of one core

    @property
    def note(self) -> str:
        """Say so if other programs kept a processor busy meanwhile: the time may be too long."""
        return "measured while other work ran" if self.others > DISTURBING else ""


def measure(call: Callable[[], Result]) -> tuple[Result, Cost]:
    """Run a call, and return its result and its cost.

    Memory is the GPU's where there is one, else the resident memory of this process, looked at
    every two milliseconds: right to a few MiB. What was freed before is given back first.
    """
    gc.collect()
    before = _processor_time_of_others()
    result, seconds, peak = (_on_gpu if torch.cuda.is_available() else _on_cpu)(call)
    others = _processor_time_of_others() - before - _TICKS
    return result, Cost(seconds, peak / 2**20, max(others, 0.0) / max(seconds, 1e-9))


def _processor_time_of_others() -> float:
    """Return the seconds that all processors have worked, or waited for the host, without us."""
    process, spent = psutil.Process(), 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has just ended, and our children include it
            times = one.cpu_times()._asdict()
            # "children" are those that have ended.
            names = ("user", "system", "children_user", "children_system")
            spent += sum(times.get(name, 0) for name in names)
    machine = psutil.cpu_times()._asdict()
    # The time of guests is a part of "user".
    idle = sum(machine.get(name, 0) for name in ("idle", "iowait", "guest", "guest_nice"))
    return sum(machine.values()) - idle - spent


def _on_gpu(call: Callable[[], Result]) -> tuple[Result, float, int]:
    torch.cuda.synchronize()  # work that is still queued is not this call's
    torch.cuda.reset_peak_memory_stats()
    before, start = torch.cuda.memory_allocated(), time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return result, seconds, torch.cuda.max_memory_allocated() - before


def _on_cpu(call: Callable[[], Result]) -> tuple[Result, float, int]:
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
    return result, seconds, peak - before
