"""What the benchmarks share: clocks, memory, a description of the machine, options and results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from helpers.run import files

MIB = 2**20


def in_use(device: str) -> tuple[int, int]:
    """Return bytes in use now, and at the peak of this process."""
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize(), peak
    return peak, peak


def wall_or_cpu(device: str) -> str:
    """Return which time is measured, ``"wall"`` or ``"CPU"``."""
    return "CPU" if device == "cpu" and torch.get_num_threads() == 1 else "wall"


def clock(device: str) -> Callable[[], float]:
    """Return the clock of :func:`wall_or_cpu`, in seconds."""
    return time.process_time if wall_or_cpu(device) == "CPU" else time.perf_counter


def machine(device: str, threads: int, *libraries: str) -> dict:
    """Describe what was measured on, without naming the host, and the libraries beside us."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "time": wall_or_cpu(device),
        "load_at_start": round(os.getloadavg()[0], 1),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        **{library: version(library) for library in libraries},
    }


def options(description: str) -> argparse.ArgumentParser:
    """Return the options that the benchmarks share."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser


def devices() -> list[str]:
    """Return what can be measured on here."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def write(name: str, about: dict, rows: list[dict]) -> None:
    """Write ``results/<name>.json``, whole or not at all."""
    with files.atomic(files.ROOT / "benchmarks" / "results" / f"{name}.json") as partial:
        partial.write_text(json.dumps({"machine": about, "results": rows}, indent=2) + "\n")
