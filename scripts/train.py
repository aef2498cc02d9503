"""Train one network that notebooks share, or load what an earlier training left.

python scripts/train.py classifier build/quick/networks/classifier.pt --profile quick
python scripts/train.py shapes_vit build/quick/networks/shapes_vit.pt -p TRAIN True
"""

import argparse
import sys
from pathlib import Path

import torch

from helpers.nets import laboratory, training
from helpers.nets.models import Classifier
from helpers.run import files, profiles
from helpers.run.errors import WorkbookError, message, unknown


def network(name: str, profile: str, given: dict[str, str]) -> Classifier:
    """Return the profile's classifier, or a network of the laboratory, trained.

    Raises:
        WorkbookError: no network or profile has that name, or a parameter does not fit.
    """
    if name in laboratory.NAMES:
        return laboratory.trained(name, train=given.get("TRAIN", "").lower() == "true")[0]
    if name != "classifier":
        raise unknown("network", name, ["classifier", *laboratory.NAMES])
    changes = {key.lower(): given[key] for key in ("DATASET", "MODEL", "START") if key in given}
    return training.trained_classifier(profiles.load(profile, **changes))


def main() -> int:
    """Read the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("output", type=Path)
    parser.add_argument("--profile", default="auto")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="a notebook parameter that changes the profile")  # fmt: skip
    given = parser.parse_args()
    told = given.output.with_suffix(".failed.txt")  # as of a notebook, see run_notebook.py
    given.output.parent.mkdir(parents=True, exist_ok=True)
    told.write_text(f"network {given.name} was stopped or killed (out of memory?) before its end\n")
    try:
        trained = network(given.name, given.profile, dict(given.p))
        with files.atomic(given.output) as partial:
            torch.save(trained.network.state_dict(), partial)
    except WorkbookError as error:
        told.write_text(f"network {given.name} failed: {error}\n")
        print(message(error), file=sys.stderr)
        return 1
    told.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
