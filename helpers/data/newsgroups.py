"""20 newsgroups (Lang 1995): articles of 1993, divided by date into training and test."""

import tarfile

import numpy as np

from helpers.data import assets
from helpers.data.folders import DAMAGED
from helpers.data.texts import TextSet
from helpers.run.errors import WorkbookError, unknown

NAME = "newsgroups20"


def load(split: str = "test") -> TextSet:
    """Load the articles of one split, by newsgroup and then by number.

    The archive is read in memory, never unpacked. Articles are Latin-1.

    Args:
        split: ``"train"`` (11,314 articles) or ``"test"`` (7,532, all of a later date).

    Raises:
        WorkbookError: no such split, the asset cannot be had, or the archive is damaged.
    """
    if split not in ("train", "test"):
        raise unknown("split of the newsgroups", split, ("train", "test"))
    asset = assets.fetch(NAME)
    articles = []
    try:
        with tarfile.open(asset.path) as archive:
            for member in archive:
                folder, *place = member.name.split("/")
                if folder == f"20news-bydate-{split}" and member.isfile():
                    group, number = place
                    text = archive.extractfile(member).read().decode("latin-1")
                    articles.append((group, int(number), text))
    except (*DAMAGED, ValueError) as error:
        raise WorkbookError(_damaged(asset.path.name)) from error
    if not articles:
        raise WorkbookError(_damaged(asset.path.name))
    articles.sort()
    names = sorted({group for group, _, _ in articles})
    return TextSet(
        name=NAME,
        split=split,
        texts=tuple(text for _, _, text in articles),
        labels=np.array([names.index(group) for group, _, _ in articles]),
        class_names=tuple(names),
        ids=tuple(f"{group}/{number}" for group, number, _ in articles),
        note=asset.note,
    )


def _damaged(file: str) -> str:
    return f"{file} is not the 20news-bydate archive, or damaged: delete it and download it again"
