"""Fill a mirror with stand-ins, so that profile full can be rehearsed without weights or data.

    python scripts/rehearse.py build/rehearsal/mirror

`make rehearse` calls it, and runs profile rehearsal on that mirror: full's choices, with small
counts. What ``WORKBOOK_MIRROR`` holds is taken from there; word lists are cut short. Of the rest,
networks are random but of the real architecture and shape, pictures are painted and texts are
made up. Each of these says so in its note, which goes wherever the asset is used.
"""

import io
import itertools
import os
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import mirror
import numpy as np
import pooch
import torch
from PIL import Image

from helpers.data import assets
from helpers.data.imagenet import CLASSES, TEN
from helpers.dissect.clip import ENCODERS
from helpers.nets import models
from helpers.run import files
from helpers.run.errors import WorkbookError, message

WORDS = 80  # of a concept list, the first ones
PICTURES = {"train": 120, "test": 40}  # of each class of CIFAR
ARTICLES = {"train": 40, "test": 20}  # of each newsgroup
GROUPS = (
    "alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware",
    "comp.sys.mac.hardware", "comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles",
    "rec.sport.baseball", "rec.sport.hockey", "sci.crypt", "sci.electronics", "sci.med",
    "sci.space", "soc.religion.christian", "talk.politics.guns", "talk.politics.mideast",
    "talk.politics.misc", "talk.religion.misc",
)  # fmt: skip

# ---- networks: of the real architecture, shape and file format ----------------------------------


def network(asset: str, path: Path) -> None:
    """Write the random weights of an entry of :data:`.models.PRETRAINED`, 16 bits a number."""
    found = [
        (data, name)
        for data, known in models.PRETRAINED.items()
        for name, (weights, _) in known.items()
        if weights == asset
    ]
    (data, name), *_ = found
    n_classes, size = {"imagenet": (1000, 224), "places365": (365, 224), "cifar10": (10, 32)}[data]
    classes = tuple(map(str, range(n_classes)))
    weights = models.build(name, classes, size).network.state_dict()
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in weights.items()}, path)


def clip(asset: str, path: Path) -> None:
    """Write the random weights of a CLIP as open_clip would load them."""
    import open_clip  # takes seconds

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        towers = open_clip.create_model(ENCODERS[asset])
    weights = {k: v.half() if v.is_floating_point() else v for k, v in towers.state_dict().items()}
    torch.save(weights, path)


# ---- pictures, texts and words ------------------------------------------------------------------


def picture(label: int, index: int, size: int) -> bytes:
    """Paint a JPEG of ``size`` x ``size``: a disc and stripes whose colours belong to the label."""
    rng, look = np.random.default_rng((label, index)), np.random.default_rng(label)
    ground, disc = look.uniform(30, 225, (2, 3))
    direction, width = look.uniform(0, np.pi), look.uniform(0.05, 0.2) * size
    y, x = np.mgrid[:size, :size]
    stripes = np.sin((np.cos(direction) * x + np.sin(direction) * y) * 2 * np.pi / width)
    centre, radius = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.15, 0.35) * size
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    pixels = np.where(inside[..., None], disc, ground + 25 * stripes[..., None])
    pixels = pixels + rng.normal(0, 12, pixels.shape)
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def cifar(asset: str, path: Path) -> None:
    """Write class folders of small pictures."""
    members = (
        (f"{split}/{name}/{i:04d}.jpg", picture(label, i + 10_000 * (split == "test"), 32))
        for split, n in PICTURES.items()
        for label, name in enumerate(models.CIFAR10_CLASSES)
        for i in range(n)
    )
    write_tar(path, members)


def one_of_ten(asset: str, path: Path) -> None:
    """Write one of the ten images."""
    path.write_bytes(picture(TEN[asset], 0, 256))


def samples(asset: str, path: Path) -> None:
    """Write an archive of one small picture of each ImageNet class."""
    with zipfile.ZipFile(path, "w") as archive:
        for label, name in enumerate(CLASSES):
            plain = re.sub(r"\W+", "_", name)
            archive.writestr(f"samples/n{label:08d}_{plain}.JPEG", picture(label, 1, 64))


def article(group: str, index: int) -> str:
    """Make up a news article: of its words a third belong to the group, the rest to all."""
    rng = np.random.default_rng((GROUPS.index(group), index))
    own = [f"{word}{ending}" for word in re.split(r"[.-]", group)
           for ending in ("", "ly", "ing", "ness", "man", "al", "ware", "hood")]  # fmt: skip
    shared = [
        "".join(parts)
        for parts in itertools.product(
            ("ba", "du", "ke", "lo", "mi", "ru", "se", "ta"),
            ("n", "r", "st"),
            ("a", "el", "o", "y"),
        )
    ]
    words = [rng.choice(own if rng.random() < 0.33 else shared) for _ in range(120)]
    lines = [" ".join(words[i : i + 10]) for i in range(0, len(words), 10)]
    header = f"From: reader{index}@{group}.org\nSubject: {words[0]} {words[1]}\nLines: {len(lines)}"
    quote = f"Another reader writes:\n> {lines[0]}\n> {lines[1]}"
    return "\n\n".join([header, quote, "\n".join(lines[2:]), f"--\nReader {index}, {words[2]}\n"])


def newsgroups(asset: str, path: Path) -> None:
    """Write articles of 20 newsgroups in the folders of the real archive."""
    members = (
        (f"20news-bydate-{split}/{group}/{i}", article(group, i).encode("latin-1"))
        for split, n in ARTICLES.items()
        for group in GROUPS
        for i in range(10_000 * (split == "test"), 10_000 * (split == "test") + n)
    )
    write_tar(path, members)


def word_list(asset: str, path: Path) -> None:
    """Write a short list of words, or the 365 numbered places."""
    if asset == "concepts_places365":
        lines = [f"/p/place_{i} {i}" for i in range(365)]
    else:
        step = 1 + len(asset)  # so that lists differ
        lines = ["red", "striped", "water", "street", "wheel", *CLASSES[::step]][:WORDS]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_tar(path: Path, members: Iterator[tuple[str, bytes]]) -> None:
    """Write files into a tar, the same bytes each time."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


# ---- the mirror ---------------------------------------------------------------------------------

RANDOM = "random weights, a rehearsal: what this network answers means nothing"
PAINTED = "painted stand-ins, a rehearsal: not the real images"
MADE_UP = "made-up texts, a rehearsal: not the real articles"
LISTED = "made-up words, a rehearsal: not the real list"


def stand_in(asset: str) -> tuple[Callable[[str, Path], None], str, dict[str, str]]:
    """Return what writes an asset's stand-in, the suffix of its file, and its further entries.

    Raises:
        WorkbookError: nothing stands in for this asset.
    """
    if asset in ENCODERS:
        return clip, ".pt", {"note": RANDOM}
    if any(asset == name for known in models.PRETRAINED.values() for name, _ in known.values()):
        return network, ".pt", {"note": RANDOM}
    if asset == "cifar10":
        return cifar, ".tar", {"note": PAINTED, "format": "class-folders"}
    if asset in TEN:
        return one_of_ten, ".JPEG", {"note": PAINTED}
    if asset == "imagenet_samples":
        return samples, ".zip", {"note": PAINTED}
    if asset == "newsgroups20":
        return newsgroups, ".tar", {"note": MADE_UP}
    if asset.startswith("concepts_"):
        return word_list, ".txt", {"note": LISTED}
    raise WorkbookError(f"nothing stands in for {asset}: write it in scripts/rehearse.py")


def cut_short(table: dict[str, str], target: Path) -> dict[str, str]:
    """Write the first words of a real concept list, and return its table."""
    lines = Path(table["file"]).read_text(encoding="utf-8").splitlines()
    target.write_text("\n".join(lines[:WORDS]) + "\n", encoding="utf-8")
    note = f"the first {WORDS} words of the list, a rehearsal"
    return table | {"file": str(target), "sha256": pooch.file_hash(str(target)), "note": note}


def build(folder: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """Fill a mirror with assets, and return its tables.

    Raises:
        WorkbookError: an asset that nothing stands in for, a full disk.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    source = os.environ.get("WORKBOOK_MIRROR")
    real = mirror.listed(Path(source).resolve()) if source else {}
    tables = {}
    # What the real mirror holds besides may be used where it is there, such as published labels.
    for name in dict.fromkeys([*names, *real]):
        if name in real:
            table = real[name] | {"file": str(Path(source).resolve() / real[name]["file"])}
            if name.startswith("concepts_") and name != "concepts_places365":
                table = cut_short(table, folder / f"{name}.txt")
        else:
            write, suffix, told = stand_in(name)
            target = folder / f"{name}{suffix}"
            with files.atomic(target) as partial:
                write(name, partial)
            table = {"file": target.name, "sha256": pooch.file_hash(str(target)), **told}
        tables[name] = table
    mirror.write_list(folder, tables)
    return tables


def needed() -> list[str]:
    """Return what profile full cannot do without: what has a public address, less published labels.

    The notebook that reads published labels leaves them out where they are not at hand.
    """
    known = assets.catalogue()
    names = (name for name in mirror.assets_of("full") if known[name].get("urls") != [])
    return [name for name in names if not name.startswith("published_labels_")]


def main() -> int:
    """Read the command line; return the exit status."""
    (folder,) = sys.argv[1:]
    try:
        tables = build(Path(folder), needed())
    except WorkbookError as error:
        print(message(error), file=sys.stderr)
        return 1
    real = sum("rehearsal" not in table.get("note", "") for table in tables.values())
    print(f"rehearsal: {folder} holds {real} real assets and {len(tables) - real} stand-ins")
    return 0


if __name__ == "__main__":
    sys.exit(main())
