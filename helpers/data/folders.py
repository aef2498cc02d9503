"""Images in class folders, ``train/<class>/…`` and ``test/<class>/…``: the reader's own, too.

A folder, a zip or a tar archive are read alike. Archives are read in memory, never unpacked.
"""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps

from helpers.data.images import ImageSet
from helpers.run.errors import WorkbookError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
SMALLEST = 8  # pixels; below that there is nothing to explain
# What reading a damaged archive may raise.
DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, BadGzipFile, lzma.LZMAError, zlib.error, EOFError,
    UnicodeDecodeError, NotImplementedError, RuntimeError,  # zip: names, methods, flags
)  # fmt: skip
HELD_OUT = 20  # every 20th training image is kept for validation


def load(
    path: str | Path, split: str = "test", n: int | None = None, *, size: int = 32,
    name: str = "folder", note: str = "",
) -> ImageSet:  # fmt: skip
    """Read one split of a data set in class folders.

    Classes are the sorted folder names. A non-square image is cropped at the centre and scaled
    to ``size`` x ``size``. Where ``validation`` has no folder, it is every 20th training image.

    Args:
        path: the folder or archive that holds ``train/`` and ``test/``.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        n: stop at about this many images, the same number of each class; all if None.
        size: height and width in pixels.
        name: what to call the data set.
        note: where the images are not the original ones, say so here.

    Raises:
        WorkbookError: no such path or split, an empty class, an unreadable or tiny image.
    """
    path = Path(path)
    folder = "train" if split == "validation" else split
    by_class: dict[str, dict[str, bytes]] = {}
    for file, data in _files(path):
        if len(file.parts) < 2 or file.parts[0] != folder:
            continue
        images = by_class.setdefault(file.parts[1], {})
        if data is not None and file.suffix.lower() in SUFFIXES:
            images["/".join(file.parts[1:])] = data
    if not by_class:
        raise WorkbookError(
            f"{path} has no {folder}/<class>/ folders: sort the images into "
            "train/<class>/ and test/<class>/"
        )
    empty = [c for c, images in sorted(by_class.items()) if not images]
    if empty:
        raise WorkbookError(
            f"class folder {folder}/{empty[0]}/ of {path.name} has no images "
            f"({', '.join(sorted(SUFFIXES))}): fill it or remove it"
        )
    class_names = tuple(sorted(by_class))
    per_class = None if n is None else -(-n // len(class_names))
    chosen = [
        (label, file, data)
        for label, class_name in enumerate(class_names)
        for file, data in _part(sorted(by_class[class_name].items()), split)[:per_class]
    ]
    return ImageSet(
        name=name,
        split=split,
        pixels=torch.from_numpy(np.stack([decode(d, f, size) for _, f, d in chosen])),
        labels=torch.tensor([label for label, _, _ in chosen]),
        class_names=class_names,
        ids=tuple(file for _, file, _ in chosen),
        note=note,
    )


def _part(images: list, split: str) -> list:
    """Divide a class of the training folder into training and validation images."""
    match split:
        case "train":
            return [image for i, image in enumerate(images) if i % HELD_OUT != HELD_OUT - 1]
        case "validation":
            return images[HELD_OUT - 1 :: HELD_OUT] or images[-1:]
        case _:
            return images


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
    """Return a text that changes when a file of the folder or archive changes."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return repr(stats)


def _files(path: Path) -> Iterator[tuple[PurePosixPath, bytes | None]]:
    """Yield the relative path and the bytes of every file; None for the bytes of a folder."""
    if not path.exists():
        raise WorkbookError(f"there is no {path}: give a folder, a zip or a tar of class folders")
    try:
        if path.is_dir():
            for file in path.rglob("*"):
                data = file.read_bytes() if file.is_file() else None
                yield PurePosixPath(file.relative_to(path).as_posix()), data
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    yield (
                        PurePosixPath(info.filename),
                        None if info.is_dir() else archive.read(info),
                    )
        else:
            with tarfile.open(path) as archive:
                for member in archive:
                    yield (
                        PurePosixPath(member.name),
                        archive.extractfile(member).read() if member.isfile() else None,
                    )
                # A broken header looks like the end to tarfile, and the checksum comes last.
                if any(any(block) for block in iter(lambda: archive.fileobj.read(1 << 20), b"")):
                    raise tarfile.ReadError("there is more after the end")
    except DAMAGED as error:
        raise WorkbookError(
            f"{path.name} is neither a folder nor a whole zip or tar archive: make it again"
        ) from error
