"""The 365 kinds of places of Places365 (Zhou et al. 2018), in the order of a network's outputs."""

import re

from helpers.data import assets
from helpers.run.errors import WorkbookError


def classes() -> tuple[str, ...]:
    """Return the 365 names; "/b/bow_window/indoor" becomes "bow window, indoor".

    Raises:
        WorkbookError: the list can't be fetched, or does not number 365 places from 0.
    """
    asset = assets.fetch("concepts_places365")
    lines = asset.path.read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"/[a-z]/(\S+) (\d+)", line) for line in lines]
    if not all(found) or [int(match[2]) for match in found] != list(range(365)):
        raise WorkbookError(
            f"{asset.path.name} does not number 365 places from 0: delete it and fetch "
            "concepts_places365 again"
        )
    return tuple(match[1].replace("/", ", ").replace("_", " ") for match in found)
