"""Train the laboratory's networks anew, and ship their weights: make_weights.py [name ...].

A network whose shipped file is missing, or is of another configuration, gets a new one. A file
that fits stays as it is, and the training only says how a fresh network compares with it. Both
accuracies go into ``data/weights/weights.json``, with recipe, seed, data and library versions.
"""

import json
import platform
import sys
import time
from dataclasses import asdict
from typing import Any

import torch
import torchvision

from helpers.nets import checkpoints, laboratory, training
from helpers.run import files


def make(name: str) -> dict[str, Any]:
    """Train one network, write its file if there is none, and return its entry of the table."""
    plan = laboratory.plan(name)
    made_by = checkpoints.configuration(
        plan.classifier, plan.profile, asdict(plan.recipe), plan.start
    )
    _, path = checkpoints.paths(made_by)
    train, validation, test = (
        training.load_split(plan.profile, split) for split in ("train", "validation", "test")
    )
    began = time.process_time()
    history = training.fit(plan.classifier, train, validation, plan.recipe)
    seconds = time.process_time() - began
    fresh = training.accuracy(plan.classifier, test)
    if not path.exists():
        checkpoints.save(path, plan.classifier, made_by, asdict(history), half=True)
    shipped = laboratory.plan(name).classifier
    checkpoints.load(path, shipped, made_by)
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "configuration": json.loads(made_by),
        "test_accuracy_shipped": round(training.accuracy(shipped, test), 4),
        "test_accuracy_fresh": round(fresh, 4),
        "train_accuracy_fresh": round(history.train_accuracy[-1], 4),
        "test_images": len(test),
        "processor_seconds_fresh": round(seconds),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }


def main(names: list[str]) -> None:
    """Make the named networks, or all; then remove files that no network uses any more."""
    folder = checkpoints.shipped_folder()
    table = folder / "weights.json"
    entries = {}
    for name in names or laboratory.NAMES:
        entry = make(name)
        entries = json.loads(table.read_text(encoding="utf-8")) if table.exists() else {}
        entries[name] = entry
        ordered = {name: entries[name] for name in laboratory.NAMES if name in entries}
        with files.atomic(table) as partial:
            partial.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
        shipped, fresh = entry["test_accuracy_shipped"], entry["test_accuracy_fresh"]
        print(f"{name}: {shipped:.1%} of the test images right, a fresh network {fresh:.1%}")
    for path in folder.glob("*.pt"):
        if not names and path.name not in {entry["file"] for entry in entries.values()}:
            path.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
