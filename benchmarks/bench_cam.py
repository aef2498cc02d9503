"""Measure our CAMs beside the grad-cam library: time, peak memory, difference of the maps.

    python benchmarks/bench_cam.py            # every case, on the CPU and on the GPU if there
    python benchmarks/bench_cam.py --threads 1
    python benchmarks/bench_cam.py --model mobilenet_v2

Each call runs in a fresh process with one image of 224 x 224, after one warm-up pass of the
network. The time is the whole call, construction included: the best of three where a call takes
less than 5 s, else a single one, by the same rule for both sides. With one thread on the CPU
it is the process's CPU time, which a busy machine stretches less, else wall time. The memory is
what the first call adds: the peak resident set (on a GPU: the peak allocation) less what was in
use before it.
Weights are ImageNet's where ``WORKBOOK_MIRROR`` or the cache holds them, else random ones with
BatchNorm statistics to match; the image likewise.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytorch_grad_cam
import torch
from common import MIB, clock, devices, in_use, machine, options, write
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from helpers.data import assets, imagenet
from helpers.explain import cams
from helpers.nets import models

METHODS = {
    "ablationcam": (cams.AblationCAM, pytorch_grad_cam.AblationCAM),
    "scorecam": (cams.ScoreCAM, pytorch_grad_cam.ScoreCAM),
}
# Layers without negative activations, where both sides mean the same by ablation.
CASES = [
    ("mobilenet_v2", "features.18", "ablationcam"),
    ("mobilenet_v2", "features.7.conv.1", "ablationcam"),
    ("mobilenet_v2", "features.18", "scorecam"),
    ("resnet50", "layer4", "ablationcam"),
    ("resnet50", "layer2", "ablationcam"),
    ("resnet50", "layer4", "scorecam"),
]


def subject(name: str, device: str) -> tuple[nn.Module, Tensor, str]:
    """Return a network in eval mode, an image [1, 3, 224, 224] for it, and whose weights it has."""
    torch.manual_seed(0)
    image = torch.randn(1, 3, 224, 224)
    if assets.available(f"imagenet_{name}"):
        classifier = models.pretrained(name).to(device)
        if assets.available(next(iter(imagenet.TEN))):
            image = classifier.preprocess(imagenet.load_ten()[[0]].images)
        return classifier.network, image.to(device), "ImageNet"
    network = models.build(name, imagenet.CLASSES, 224).network
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 224, 224))
    return network.eval().to(device), image.to(device), "random"


def measure(name: str, layer: str, method: str, side: int, device: str, out: Path) -> None:
    """Run one side of one case in this process; write its map and numbers."""
    network, image, weights = subject(name, device)
    with torch.no_grad():
        target = [ClassifierOutputTarget(int(network(image).argmax()))]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before, _ = in_use(device)
    now = clock(device)
    seconds: list[float] = []
    while not seconds or (len(seconds) < 3 and seconds[0] < 5):
        start = now()
        explainer = METHODS[method][side](network, [network.get_submodule(layer)])
        heatmap = explainer(image, target)
        seconds.append(now() - start)
        if len(seconds) == 1:
            peak = in_use(device)[1]
    np.save(out.with_suffix(".npy"), heatmap)
    numbers = {"seconds": min(seconds), "mib": (peak - before) / MIB, "weights": weights}
    out.write_text(json.dumps(numbers))


def compare(name: str, layer: str, method: str, device: str, threads: int) -> dict:
    """Run both sides of a case, each in a process of its own."""
    sides, maps = [], []
    with tempfile.TemporaryDirectory() as folder:
        for side in (0, 1):
            out = Path(folder) / f"{side}.json"
            case = json.dumps([name, layer, method, side, device, str(out)])
            command = [sys.executable, __file__, "--threads", str(threads), "--case", case]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            sides.append(json.loads(out.read_text()))
            maps.append(np.load(out.with_suffix(".npy")))
    ours, theirs = sides
    return {
        "model": name,
        "weights": ours["weights"],
        "layer": layer,
        "method": method,
        "library_seconds": round(theirs["seconds"], 3),
        "our_seconds": round(ours["seconds"], 3),
        "time_ratio": round(theirs["seconds"] / ours["seconds"], 2),
        "library_mib": round(theirs["mib"], 1),
        "our_mib": round(ours["mib"], 1),
        "memory_ratio": round(ours["mib"] / theirs["mib"], 3),
        "largest_difference": float(f"{np.abs(maps[0] - maps[1]).max():.1e}"),
    }


def table(rows: list[dict]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| method | model (weights) | layer | library | ours | faster | memory | difference |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {r['method']} | {r['model']} ({r['weights']}) | {r['layer']} "
        f"| {r['library_seconds']:.2f} s, {r['library_mib']:.0f} MiB "
        f"| {r['our_seconds']:.2f} s, {r['our_mib']:.0f} MiB "
        f"| {r['time_ratio']:.1f}x | {r['memory_ratio']:.2f}x | {r['largest_difference']:.0e} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure every case on every device; write JSON and print the tables."""
    parser = options(__doc__)
    parser.add_argument("--model", help="measure this model alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.case:
        *case, out = json.loads(arguments.case)
        measure(*case, Path(out))
        return
    for device in devices():
        about = machine(device, arguments.threads, "grad-cam")
        rows = []
        for case in (c for c in CASES if arguments.model in (None, c[0])):
            rows.append(compare(*case, device, arguments.threads))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
        write(f"cam_{device}", about, rows)
        print(f"\n{json.dumps(about)}\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
