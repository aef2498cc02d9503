"""Images in class folders, ``train/<class>/…`` and ``test/<class>/…``: the reader's own, too.

A folder, a zip or a tar archive are read alike. Archives are read in memory, never unpacked.
"""

import lzma
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from io import BytesIO
from pathlib import Path
from posixpath import splitext

import numpy as np
import torch
from PIL import Image, ImageOps

from helpers.data.images import ImageSet
from helpers.run.errors import WorkbookError
from helpers.run.files import ROOT

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
SMALLEST = 8  # pixels; below that there is nothing to explain
# What reading a damaged archive may raise.
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, BadGzipFile, lzma.LZMAError, zlib.error, EOFError,
    UnicodeDecodeError, NotImplementedError, RuntimeError,  # zip: names, methods, flags
)  # fmt: skip
_HELD_OUT = 20  # every 20th training image is kept for validation


def load(
    path: str | Path, split: str = "test", n: int | None = None, *, size: int = 32,
    name: str = "folder", note: str = "",
) -> ImageSet:  # fmt: skip
    """Read one split of a data set in class folders.

    Classes are the sorted folder names. A non-square image is cropped at the centre and scaled
    to ``size`` x ``size``. ``validation`` is every 20th image of a class in ``train/``, its last
    one where it has fewer; ``train`` is the rest. The only image of a class serves as both.

    Args:
        path: the folder or archive that holds ``train/`` and ``test/``.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        n: stop at about this many images, the same number of each class; all if None.
        size: height and width in pixels.
        name: what to call the data set.
        note: where the images are not the original ones, say so here.

    Raises:
        WorkbookError: no such path or split, an empty class, only one class, classes that
            ``train/`` and ``test/`` do not share, an unreadable or tiny image.
    """
    path = _found(path)
    folder = "train" if split == "validation" else split
    with _opened(path, folder) as (files, read):
        classes = _classes(path, files, folder)
        per_class = None if n is None else -(-n // len(classes))
        chosen = [
            (label, file.removeprefix(f"{folder}/"), read(file))
            for label, images in enumerate(classes.values())
            for file in part(images, split)[:per_class]
        ]
    return ImageSet(
        name=name,
        split=split,
        pixels=torch.from_numpy(np.stack([decode(d, f, size) for _, f, d in chosen])),
        labels=torch.tensor([label for label, _, _ in chosen]),
        class_names=tuple(classes),
        ids=tuple(file for _, file, _ in chosen),
        note=note,
    )


def class_names(path: str | Path) -> tuple[str, ...]:
    """Return the classes of a folder or archive by its names alone; errors as :func:`load`."""
    path = _found(path)
    with _opened(path, None) as (files, _):
        return tuple(_classes(path, files, "test"))


def _found(path: str | Path) -> Path:
    """Return where a path leads: from here (notebooks/), else from the folder of the workbook."""
    path = Path(path).expanduser()
    return path if path.exists() else ROOT / path


def _classes(path: Path, files: dict[str, bool], folder: str) -> dict[str, list[str]]:
    """Return the sorted images of each class of ``train/`` or ``test/``, classes sorted."""
    splits = {"train": {}, "test": {}}
    for file, is_file in sorted(files.items()):
        top, *inner = file.split("/")
        # Names with a dot are those of a file manager or an editor, and lie beside images, too.
        if top not in splits or any(part.startswith(".") for part in inner):
            continue
        if inner[1:] or (inner and not is_file):
            images = splits[top].setdefault(inner[0], [])
            if is_file and _is_image(file):
                images.append(file)
    classes, others = dict(sorted(splits.pop(folder).items())), *splits.values()
    if not classes:
        raise WorkbookError(
            f"{path} has no {folder}/<class>/ folders: sort the images into "
            "train/<class>/ and test/<class>/"
        )
    if empty := [name for name, images in classes.items() if not images]:
        raise WorkbookError(
            f"class folder {folder}/{empty[0]}/ of {path.name} has no images "
            f"({', '.join(sorted(SUFFIXES))}): fill it or remove it"
        )
    if others and (alone := classes.keys() ^ others.keys()):
        (other,) = splits
        where = [f"{folder if name in classes else other}/{name}/" for name in sorted(alone)]
        raise WorkbookError(
            f"train/ and test/ of {path.name} have different classes, only one of them has "
            f"{', '.join(where)}: give both the same class folders"
        )
    if len(classes) == 1:
        raise WorkbookError(
            f"{path.name} has only one class, {folder}/{min(classes)}/: a classifier needs two"
        )
    return classes


def _is_image(file: str) -> bool:
    return splitext(file)[1].lower() in SUFFIXES


def part(images: list, split: str) -> list:
    """Return the images of a split, which are sorted: validation images are training images."""
    if split == "test":
        return images
    held_out = images[_HELD_OUT - 1 :: _HELD_OUT] or images[-1:]
    if split == "validation":
        return held_out
    return sorted(set(images).difference(held_out)) or images


def decode(data: bytes, name: str, size: int, crop: float = 1.0) -> np.ndarray:
    """Decode an image of any common mode to uint8 [3, size, size] RGB.

    Greyscale, palette and CMYK images are converted, 16-bit ones scaled to 8 bits, transparent
    ones laid on white. The central square of side ``crop`` x the shorter side is kept.

    Raises:
        WorkbookError: the bytes are not a complete image, or it is below 8 x 8 pixels.
    """
    try:
        # A few damaged headers surface as ValueError or SyntaxError inside Pillow.
        image = ImageOps.exif_transpose(Image.open(BytesIO(data)))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise WorkbookError(
            f"{name} is not a readable image ({error.__class__.__name__}): "
            "it may be damaged or cut short; replace it or remove it"
        ) from error
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise WorkbookError(
            f"{name} is {width}x{height} pixels: the smallest image is {SMALLEST}x{SMALLEST}; "
            "replace it or remove it"
        )
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    side = min(width, height) * crop
    box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    image = image.convert("RGB")
    if image.size != (size, size) or crop != 1:
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image).transpose(2, 0, 1)


def fingerprint(path: str | Path) -> str:
    """Return a text that changes when a file of the folder or archive changes or moves."""
    path = _found(path)
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    stats = [(f, f.stat()) for f in files]
    return repr([(f.relative_to(path).as_posix(), s.st_size, s.st_mtime_ns) for f, s in stats])


@contextmanager
def _opened(
    path: Path, folder: str | None
) -> Iterator[tuple[dict[str, bool], Callable[[str], bytes]]]:
    """Yield the names in a folder or archive (True for a file), and a function that reads one.

    It reads from ``folder`` only: a tar can only be read in passing, from its first byte to its
    last, and what is not asked for is not kept.
    """
    if not path.exists():
        raise WorkbookError(f"there is no {path}: give a folder, a zip or a tar of class folders")
    try:
        if path.is_dir():
            files = {f.relative_to(path).as_posix(): f.is_file() for f in path.rglob("*")}
            yield files, lambda file: (path / file).read_bytes()
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = {_plain(info.filename): info for info in archive.infolist()}
                files = {file: not info.is_dir() for file, info in members.items()}
                yield files, lambda file: archive.read(members[file])
        else:
            files, kept = {}, {}
            with tarfile.open(path) as archive:
                for member in archive:
                    file = _plain(member.name)
                    files[file] = member.isfile()
                    if files[file] and file.startswith(f"{folder}/") and _is_image(file):
                        kept[file] = archive.extractfile(member).read()
                # A broken header looks like the end to tarfile, and the checksum comes last.
                if any(any(block) for block in iter(lambda: archive.fileobj.read(1 << 20), b"")):
                    raise tarfile.ReadError("there is more after the end")
            yield files, kept.__getitem__
    except DAMAGED as error:
        raise WorkbookError(
            f"{path.name} is neither a folder nor a whole zip or tar archive: make it again"
        ) from error


@contextmanager
def official(path: Path, what: str) -> Iterator[None]:
    """Say of a downloaded archive that cannot be read that it is not ``what`` it should be."""
    try:
        yield
    except (*DAMAGED, pickle.UnpicklingError, KeyError, TypeError, ValueError) as error:
        raise WorkbookError(
            f"{path.name} is not {what}: delete it and download it again"
        ) from error


def _plain(name: str) -> str:
    """Return the name of an archive's member without the leading ./ and the folder's last /."""
    return name.removeprefix("./").rstrip("/")
