"""Fetch what the workbook does not hold itself: data sets and weights, listed in assets.toml.

Each asset is verified by its SHA-256. ``WORKBOOK_MIRROR`` names a folder that replaces the
downloads; what its ``mirror.toml`` notes about a file goes wherever the file is used.
"""

import hashlib
import json
import os
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pooch
import requests
import torch
from filelock import FileLock
from torch import Tensor
from torchvision.models import get_weight

from helpers.run import files
from helpers.run.errors import WorkbookError, unknown

pooch.get_logger().setLevel("WARNING")  # its progress bar says enough, and names no folders

_TOML = Path(__file__).with_name("assets.toml")
_TIMEOUT = 30  # seconds without a byte before a download gives up


@dataclass(frozen=True)
class Asset:
    """A verified local file and where it comes from."""

    name: str  # its table in assets.toml or mirror.toml
    path: Path  # read the file, never write to it
    licence: str = ""  # under which it may be used
    citation: str = ""  # whom to credit
    format: str = "original"  # or what a mirror declares, such as "class-folders"
    note: str = ""  # how the file differs from the original, in words


def catalogue() -> dict[str, dict]:
    """Return every asset of ``assets.toml`` by name."""
    return tomllib.loads(_TOML.read_text())


def available(name: str) -> bool:
    """Say whether ``fetch(name)`` would answer without a download."""
    try:
        return name in _mirror() or _cached(name).exists()
    except WorkbookError:
        return False


def fetch(name: str) -> Asset:
    """Return an asset, from the mirror if there, else from the cache, else downloaded.

    Raises:
        WorkbookError: no such asset, no network, a wrong checksum, or a full disk. Nothing is
            left half-written.
    """
    known = catalogue()
    mirror = _mirror()
    if name not in known and name not in mirror:
        raise unknown("asset", name, known)
    entry = known.get(name, {})
    told = {key: entry[key] for key in ("licence", "citation") if key in entry}
    if name in mirror:
        given = mirror[name]
        if lacking := {"file", "sha256"} - given.keys():
            raise WorkbookError(f"mirror.toml gives no {min(lacking)} for {name}: add it there")
        path = _verified(Path(os.environ["WORKBOOK_MIRROR"]) / given["file"], given["sha256"])
        told |= {key: given[key] for key in ("format", "note") if key in given}
    else:
        path = _download(name, entry)
    return Asset(name, path, **told)


def state_dict(name: str) -> tuple[dict[str, Tensor], str]:
    """Return the float32 weights of an asset and its provenance note.

    Understands plain state dictionaries and checkpoints that wrap one under ``state_dict``,
    with or without the ``module.`` prefix of ``nn.DataParallel``.

    Raises:
        WorkbookError: as :func:`fetch`; or the file holds no weights, or weights that are NaN.
    """
    asset = fetch(name)
    try:
        loaded = torch.load(asset.path, map_location="cpu", weights_only=True)
        loaded = loaded.get("state_dict", loaded)
        weights = {_as_today(key): value for key, value in loaded.items()}
        weights = {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
    except Exception as error:
        raise WorkbookError(
            f"{asset.path.name} holds no weights that can be read safely: delete it and fetch "
            f"{name} again"
        ) from error
    if bad := [key for key, value in weights.items() if not value.isfinite().all()]:
        raise WorkbookError(
            f"{asset.path.name} has NaN or infinite weights in {bad[0]}: replace it"
        )
    return weights, asset.note


def _as_today(key: str) -> str:
    """Return a weight's name without ``module.``, and of DenseNet as torchvision spells it now."""
    return re.sub(r"(denselayer\d+\.(norm|conv))\.([12]\.)", r"\1\3", key.removeprefix("module."))


def _urls(entry: dict) -> list[str]:
    """Return where an asset can be downloaded: nowhere, if only mirrors hold it."""
    return [get_weight(entry["torchvision"]).url] if "torchvision" in entry else entry["urls"]


def _cached(name: str) -> Path:
    urls = _urls(catalogue().get(name, {"urls": []}))
    return files.data_folder() / "cache" / Path(urls[0] if urls else name).name


def _mirror() -> dict[str, dict]:
    """Return the tables of ``mirror.toml``; empty where no mirror is set."""
    if not (folder := os.environ.get("WORKBOOK_MIRROR")):
        return {}
    try:
        return tomllib.loads((Path(folder) / "mirror.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise WorkbookError(
            f"WORKBOOK_MIRROR={folder} has no readable mirror.toml: point it to a mirror folder, "
            "or unset it to download"
        ) from error


@cache
def _verified(path: Path, sha256: str) -> Path:
    """Return the path if the file has this checksum; read once a process."""
    if not path.exists():
        raise WorkbookError(f"the mirror lists {path.name} but does not hold it: copy it there")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WorkbookError(
            f"{path.name} has the wrong checksum ({found[:8]}… instead of {sha256[:8]}…): "
            "the copy is damaged or another version; replace it"
        )
    return path


def _download(name: str, entry: dict) -> Path:
    """Download to the cache, trying each address; pooch verifies and writes atomically."""
    path = _cached(name)
    expected = entry.get("sha256") or _pins().get(name)
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=_TIMEOUT)
    faults = ["no public address is known"] if not _urls(entry) else []
    for url in _urls(entry):
        host = url.split("/")[2]
        try:
            pooch.retrieve(url, expected, path.name, path.parent, downloader=downloader)
            if not expected:
                _pin(name, path)
        except ValueError as error:  # what pooch raises for a wrong checksum
            if url == _urls(entry)[-1]:
                raise WorkbookError(
                    f"{name} from {url} has the wrong checksum: the download is damaged or the "
                    "source has changed; try again, or put a good copy in a mirror (data/README.md)"
                ) from error
            faults.append(f"{host}: wrong checksum")
        except requests.RequestException as error:
            faults.append(f"{host}: {error.__class__.__name__}")
        except OSError as error:
            raise WorkbookError(
                f"cannot write {path.name} ({error.strerror}): free some space in data/cache "
                "or point WORKBOOK_DATA to another disk"
            ) from error
        else:
            return path
    raise _unreachable(name, "; ".join(faults))


def _unreachable(name: str, faults: str) -> WorkbookError:
    return WorkbookError(
        f"cannot download {name} ({faults}): connect to the network, set WORKBOOK_MIRROR to a "
        'folder that holds it (data/README.md), or use PROFILE = "quick", which needs neither'
    )


def _pins() -> dict[str, str]:
    path = files.data_folder() / "cache" / "pins.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _pin(name: str, path: Path) -> None:
    """Keep the checksum of a first download, so that every later one must match it.

    Raises:
        ValueError: the file's name ends in the first digits of another checksum; it is removed.
    """
    digest = pooch.file_hash(str(path))
    if (told := re.search(r"-([0-9a-f]{8})\.\w+$", path.name)) and told[1] != digest[:8]:
        path.unlink()
        raise ValueError(f"{path.name} has checksum {digest[:8]}")
    with FileLock(path.parent / ".pins.lock"), files.atomic(path.parent / "pins.json") as partial:
        partial.write_text(json.dumps(_pins() | {name: digest}, indent=2))
