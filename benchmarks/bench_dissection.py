"""Measure soft-WPMI at the size of CLIP-Dissect: 896 units, 1,000 images, 20,000 words.

    python benchmarks/bench_dissection.py
    python benchmarks/bench_dissection.py --threads 1

Both sides get the same synthetic tables and run in a process of their own: ours, and the paper's
formula written out unit by unit, as in the authors' code. The time is the better of two runs: wall
time, or with one thread CPU time, which a busy machine stretches less. The memory is the peak
resident set of the whole process, tables included. Labels are compared unit by unit; where they
differ, the two best words must be a tie in single precision.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from common import MIB, clock, in_use, machine, options, write
from torch import Tensor

from helpers.dissect.similarity import soft_wpmi

UNITS, IMAGES, WORDS = 896, 1000, 20_000
TARGETS = {"seconds": 30, "gib": 3, "time_ratio": 3}


def tables() -> tuple[Tensor, Tensor]:
    """Return activations [images, units] and similarities [images, words] like those of CLIP."""
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(IMAGES, UNITS, generator=generator).relu_()
    activations += 1e-3 * torch.rand(IMAGES, UNITS, generator=generator)  # no ties
    return activations, 0.2 + 0.04 * torch.randn(IMAGES, WORDS, generator=generator)


def unit_by_unit(
    activations: Tensor, similarity: Tensor, top_k: int = 100, temperature: float = 10.0,
    lam: float = 1.0, p_start: float = 0.998, p_end: float = 0.97, min_prob: float = 1e-7,
) -> Tensor:  # fmt: skip
    """Transcribe the formula: for each unit, log(1 + p (s - 1)) of its top images, summed."""
    share = (temperature * similarity).softmax(dim=1)
    p = p_start - torch.arange(top_k) / top_k * (p_start - p_end)
    rows = []
    for unit in activations.T:
        top = share[unit.topk(top_k).indices]
        rows.append((1 + p[:, None] * (top - 1) + min_prob).log().sum(dim=0))
    log_prob = torch.stack(rows)
    return log_prob - lam * (log_prob.logsumexp(dim=0) - torch.tensor(float(len(rows))).log())


SIDES = {"ours": soft_wpmi, "unit by unit": unit_by_unit}


def measure(side: str, out: Path) -> None:
    """Run one side in this process; write its scores, labels, seconds and memory."""
    pair, now = tables(), clock("cpu")
    seconds = []
    for _ in range(2):
        start = now()
        scores = SIDES[side](*pair)
        seconds.append(now() - start)
    best = scores.topk(2, dim=1)
    torch.save({"labels": best.indices[:, 0], "lead": best.values[:, 0] - best.values[:, 1],
                "seconds": min(seconds), "gib": in_use("cpu")[1] / MIB / 1024}, out)  # fmt: skip


def main() -> None:
    """Measure both sides, compare them, write JSON and print a line for each target."""
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.case:
        side, out = json.loads(arguments.case)
        measure(side, Path(out))
        return
    about, found = machine("cpu", arguments.threads), {}
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            out = Path(folder) / "side.pt"
            command = [sys.executable, __file__, "--threads", str(arguments.threads)]
            subprocess.run([*command, "--case", json.dumps([side, str(out)])], check=True)
            found[side] = torch.load(out, weights_only=True)
    ours, theirs = found.values()
    differ = ours["labels"] != theirs["labels"]
    result = {
        "units": UNITS, "images": IMAGES, "words": WORDS,
        "seconds": round(ours["seconds"], 2), "gib": round(ours["gib"], 2),
        "seconds_unit_by_unit": round(theirs["seconds"], 2),
        "gib_unit_by_unit": round(theirs["gib"], 2),
        "time_ratio": round(theirs["seconds"] / ours["seconds"], 1),
        "labels_that_differ": int(differ.sum()),
        "largest_lead_where_they_differ": float(ours["lead"][differ].max()) if differ.any() else 0,
    }  # fmt: skip
    write("dissection", about, [result])
    print(json.dumps(result, indent=2))
    for key, target in TARGETS.items():
        met = result[key] >= target if key == "time_ratio" else result[key] < target
        print(f"{key}: {result[key]} (target {target}): {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
