"""Fill a mirror: a folder with every download of a profile, for a room without a network.

    python scripts/mirror.py build/mirror                    # what profile full needs
    python scripts/mirror.py build/mirror --profile laptop cifar10_resnet20

A file comes from ``WORKBOOK_MIRROR`` if that has it, else from ``data/cache``, else from the
network. Each is checked. What the folder holds already is kept, so the same command goes on
after a break. ``WORKBOOK_MIRROR=build/mirror`` then replaces the network.
"""

import argparse
import json
import os
import shutil
import sys
import tomllib
from pathlib import Path

import pooch

from helpers.data import assets
from helpers.run import files, profiles
from helpers.run.errors import WorkbookError, message, unknown

HEADER = "# What replaces the network, by asset; written by `make mirror`. See data/README.md.\n"


def assets_of(profile: str) -> list[str]:
    """Return the names of the assets that a profile needs, as ``assets.toml`` says.

    Those without a public address count only where they can be had.

    Raises:
        WorkbookError: no profile has that name.
    """
    if profile not in profiles.names():
        raise unknown("profile", profile, profiles.names())
    return [
        name
        for name, entry in assets.catalogue().items()
        if profile in entry["profiles"] and (entry.get("urls") != [] or assets.available(name))
    ]


def listed(folder: Path) -> dict[str, dict]:
    """Return the tables of a folder's ``mirror.toml``; empty where there is none.

    Raises:
        WorkbookError: it can't be read.
    """
    try:
        return tomllib.loads((folder / "mirror.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WorkbookError(
            f"{folder}/mirror.toml can't be read: mend it, or take another folder"
        ) from error


def write_list(folder: Path, tables: dict[str, dict]) -> None:
    """Write ``mirror.toml``, whole or not at all."""
    text = HEADER
    for name, table in tables.items():
        # A string of JSON is one of TOML, too.
        lines = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items())
        text += "\n" + "\n".join([f"[{name}]", *lines]) + "\n"
    with files.atomic(folder / "mirror.toml") as partial:
        partial.write_text(text, encoding="utf-8")


def is_there(folder: Path, table: dict | None) -> bool:
    """Say whether the folder holds the file of a table, unharmed."""
    path = folder / table["file"] if table else folder
    return path.is_file() and pooch.file_hash(str(path)) == table["sha256"]


def add(name: str, folder: Path) -> dict[str, str]:
    """Copy an asset into the folder, checked before and after, and return its table.

    Raises:
        WorkbookError: the asset can't be had, or can't be written; nothing is left half-written.
    """
    asset = assets.fetch(name)
    target = folder / "".join([name, *asset.path.suffixes])
    digest = pooch.file_hash(str(asset.path))
    with files.atomic(target) as partial:
        shutil.copyfile(asset.path, partial)
        if pooch.file_hash(str(partial)) != digest:
            raise WorkbookError(f"{name} was not copied well: try again, or take another disk")
    table = {"file": target.name, "sha256": digest}
    if asset.format != "original":
        table["format"] = asset.format
    return table | ({"note": asset.note} if asset.note else {})


def fill(folder: Path, names: list[str]) -> list[str]:
    """Bring the assets into the folder; return one line for each that failed.

    Tables that the folder's ``mirror.toml`` has of other assets stay there.
    """
    tables, faults = listed(folder), []
    for place, name in enumerate(names, start=1):
        print(f"{place} of {len(names)}: {name}", flush=True)
        try:
            if not is_there(folder, tables.get(name)):
                tables[name] = add(name, folder)
                write_list(folder, tables)
        except WorkbookError as error:
            faults.append(message(error))
    return faults


def main() -> int:
    """Read the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="asset", help="further assets of assets.toml")
    parser.add_argument("--profile", default="full")
    given = parser.parse_intermixed_args()  # names may follow the option
    source = os.environ.get("WORKBOOK_MIRROR")
    if source and Path(source).resolve() == given.folder.resolve():
        del os.environ["WORKBOOK_MIRROR"]  # a mirror is not filled from itself
    try:
        names = dict.fromkeys([*assets_of(given.profile), *given.names])
        faults = fill(given.folder, list(names))
    except WorkbookError as error:
        print(message(error), file=sys.stderr)
        return 1
    if faults:
        print(f"{len(faults)} of {len(names)} assets are missing:", *faults, sep="\n  ",
              file=sys.stderr)  # fmt: skip
        return 1
    print(f"mirror: {given.folder}, {len(names)} assets; export WORKBOOK_MIRROR={given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
