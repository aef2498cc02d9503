"""Measure helpers.lime beside the lime library: time, peak memory, difference of the weights.

    python benchmarks/bench_lime.py            # on the CPU, and on the GPU if there
    python benchmarks/bench_lime.py --samples 200

One image of 224 x 224 is explained with 1,000 samples for its five most probable classes,
segmentation (quickshift, the library's default) included. The library runs with its own batch
size of 10 and with larger ones, of which the fastest counts as its best; the function that it is
given calls the same classifier. Each side runs in a fresh process after one warm-up pass of the
network, three times, in turn with the others, so that what else the machine does hits all; the
best counts. Wall time, or with one thread on the CPU the process's CPU time.
Peak memory is the largest resident set of that process (on a GPU: the largest allocation), all
that Python has loaded included; "added" is what the explanation adds to what was there before.
Weights are ImageNet's where ``WORKBOOK_MIRROR`` or the cache holds them, else random ones; the
image likewise.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import MIB, clock, devices, in_use, machine, options, write
from lime.lime_image import LimeImageExplainer as Library
from lime.wrappers.scikit_image import SegmentationAlgorithm

from helpers.data import assets, imagenet
from helpers.explain import lime
from helpers.nets import models
from helpers.nets.models import Classifier

MODELS = {"cpu": ["mobilenet_v2"], "cuda": ["mobilenet_v2", "resnet50"]}
BATCH_SIZES = (10, 5, 20, 64)  # of the library; the first is its default
ROUNDS = 3
SIDES = (*(f"library, batches of {size}" for size in BATCH_SIZES), "ours", "ours, bfloat16")


def subject(name: str, device: str) -> tuple[Classifier, np.ndarray, str]:
    """Return a classifier, an image uint8 [224, 224, 3] for it, and whose weights it has."""
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    if assets.available(next(iter(imagenet.TEN))):
        image = imagenet.load_ten().pixels[0].permute(1, 2, 0).contiguous().numpy()
    if assets.available(f"imagenet_{name}"):
        return models.pretrained(name).to(device), image, "ImageNet"
    return models.build(name, imagenet.CLASSES, 224).to(device), image, "random"


def measure(name: str, side: str, samples: int, device: str, out: Path) -> None:
    """Run one side in this process; write its numbers and its weights."""
    classifier, image, weights = subject(name, device)
    classifier.probabilities(torch.zeros(16, 3, 224, 224))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before, _ = in_use(device)

    def probabilities(batch: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(batch).to(classifier.device).permute(0, 3, 1, 2).float() / 255
        return classifier.probabilities(tensor).numpy()

    quickshift = SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2, rng=42)
    arguments = {"num_samples": samples, "segmentation_fn": quickshift}
    now = clock(device)
    start = now()
    if side.startswith("library"):
        size = int(side.rpartition(" ")[2])
        explanation = Library(random_state=0).explain_instance(
            image, probabilities, batch_size=size, **arguments
        )
    else:
        explainer = lime.LimeImageExplainer(seed=0, bf16="bfloat16" in side)
        explanation = explainer.explain_instance(image, classifier, **arguments)
    seconds = now() - start
    peak = in_use(device)[1]
    np.save(out.with_suffix(".npy"), lime.weights(explanation, explanation.top_labels[0]))
    numbers = {"seconds": seconds, "added_mib": (peak - before) / MIB, "peak_mib": peak / MIB}
    out.write_text(json.dumps({**numbers, "weights": weights}))


def compare(name: str, samples: int, device: str, threads: int) -> list[dict]:
    """Run every side of a model, each in a process of its own."""
    rows: dict[str, dict] = {}
    found: dict[str, np.ndarray] = {}
    for side in SIDES * ROUNDS:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "side.json"
            case = json.dumps([name, side, samples, device, str(out)])
            command = [sys.executable, __file__, "--threads", str(threads), "--case", case]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            row = {"model": name, "side": side, **json.loads(out.read_text())}
            found[side] = np.load(out.with_suffix(".npy"))
        rows[side] = min(rows.get(side, row), row, key=lambda row: row["seconds"])
    exact = found[SIDES[0]]
    return [_beside(rows, row, found[side], exact) for side, row in rows.items()]


def _beside(rows: dict[str, dict], row: dict, weights: np.ndarray, exact: np.ndarray) -> dict:
    """Add to a row how it compares with the library's."""
    library = [rows[side]["seconds"] for side in SIDES[: len(BATCH_SIZES)]]
    gap = np.abs(weights - exact).max() / np.abs(exact).max()
    return {
        **row,
        **{key: round(row[key], 3) for key in ("seconds", "added_mib", "peak_mib")},
        "times_default": round(library[0] / row["seconds"], 2),
        "times_best": round(min(library) / row["seconds"], 2),
        "largest_difference": float(f"{gap:.1e}"),
    }


def table(rows: list[dict]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| model (weights) | side | time | faster than default | than best | peak (added) "
        "| difference |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r['model']} ({r['weights']}) | {r['side']} | {r['seconds']:.2f} s "
        f"| {r['times_default']:.2f}x | {r['times_best']:.2f}x "
        f"| {r['peak_mib']:.0f} ({r['added_mib']:.0f}) MiB | {r['largest_difference']:.0e} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure every model on every device; write JSON and print the tables."""
    parser = options(__doc__)
    parser.add_argument("--samples", type=int, default=1000, help="perturbed images")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.case:
        *case, out = json.loads(arguments.case)
        measure(*case, Path(out))
        return
    for device in devices():
        about = machine(device, arguments.threads, "lime") | {"samples": arguments.samples}
        rows = []
        for name in MODELS[device]:
            rows += compare(name, arguments.samples, device, arguments.threads)
        write(f"lime_{device}", about, rows)
        print(f"{json.dumps(about)}\n\n{table(rows)}\n")
        print("difference: of the top class's weights from the library's, relative to the largest")


if __name__ == "__main__":
    main()
