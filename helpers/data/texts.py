"""Texts: the one type that all text data sets are handed out as, and 20 newsgroups (Lang 1995).

The newsgroups' articles are of 1993, divided by date into training and test.
"""

import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from sklearn.datasets._twenty_newsgroups import (
    strip_newsgroup_footer,
    strip_newsgroup_header,
    strip_newsgroup_quoting,
)

from helpers.data import assets
from helpers.data.folders import official
from helpers.run.errors import unknown

NEWSGROUPS = "newsgroups20"
PARTS = ("header", "subject", "quotes", "footer", "body")

# A long header line goes on in lines that begin with a blank.
_SUBJECT = re.compile(r"^Subject:.*(?:\n[ \t].*)*\n?", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class TextSet:
    """N texts with their classes, one split of a data set."""

    name: str  # of the data set
    split: str  # "train" or "test"
    texts: tuple[str, ...]
    labels: np.ndarray  # int64 [N], class indices
    class_names: tuple[str, ...]
    ids: tuple[str, ...]  # N names of documents that last
    note: str = ""  # how the texts differ from the original ones, in words
    deciding: tuple[frozenset[str], ...] = ()  # per class the words that make it, if known

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: slice | Iterable[int]) -> Self:
        """Return some of the documents: a slice, indices, or a bool array [N]."""
        kept = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)]
        return replace(
            self,
            texts=tuple(self.texts[i] for i in kept),
            labels=self.labels[kept],
            ids=tuple(self.ids[i] for i in kept),
        )

    def only(self, *names: str) -> Self:
        """Return the same documents reduced to some of their :data:`PARTS`.

        Raises:
            WorkbookError: no such part.
        """
        for name in names:
            if name not in PARTS:
                raise unknown("part of a document", name, PARTS)
        divided = map(parts, self.texts)
        return replace(self, texts=tuple("\n".join(d[name] for name in names) for d in divided))


def parts(text: str) -> dict[str, str]:
    """Divide a news article into :data:`PARTS`, as scikit-learn's ``fetch_20newsgroups`` does.

    The header ends at the first blank line; its line ``Subject:`` is a part of its own. The
    footer begins at the last line that is blank or made of hyphens; where an article is not
    signed, that is its last paragraph. Quotations are the lines in between that begin with
    ``>`` or ``|`` or introduce such lines.
    """
    header, _, _ = text.partition("\n\n")
    subject = _SUBJECT.search(header)
    letter = strip_newsgroup_header(text).strip()
    unsigned = strip_newsgroup_footer(letter)
    quotes = [line for line in unsigned.split("\n") if line and not strip_newsgroup_quoting(line)]
    return {
        "header": _SUBJECT.sub("", header, count=1),
        "subject": subject[0].rstrip() if subject else "",
        "quotes": "\n".join(quotes),
        "footer": letter[len(unsigned) + 1 :],
        "body": strip_newsgroup_quoting(unsigned),
    }


def load_newsgroups(split: str = "test") -> TextSet:
    """Load the articles of 20 newsgroups, one split, by newsgroup and then by number.

    ``"train"`` has 11,314 articles, ``"test"`` 7,532, all of a later date. The archive is read in
    memory, never unpacked. Articles are Latin-1.

    Raises:
        WorkbookError: no such split, the asset cannot be had, or the archive is damaged.
    """
    if split not in ("train", "test"):
        raise unknown("split of the newsgroups", split, ("train", "test"))
    asset = assets.fetch(NEWSGROUPS)
    articles = []
    with official(asset.path, "the 20news-bydate archive, or damaged"):
        with tarfile.open(asset.path) as archive:
            for member in archive:
                folder, *place = member.name.split("/")
                if folder == f"20news-bydate-{split}" and member.isfile():
                    group, number = place
                    text = archive.extractfile(member).read().decode("latin-1")
                    articles.append((group, int(number), text))
        if not articles:
            raise tarfile.ReadError("there are no articles")
    articles.sort()
    names = sorted({group for group, _, _ in articles})
    return TextSet(
        name=NEWSGROUPS,
        split=split,
        texts=tuple(text for _, _, text in articles),
        labels=np.array([names.index(group) for group, _, _ in articles]),
        class_names=tuple(names),
        ids=tuple(f"{group}/{number}" for group, number, _ in articles),
        note=asset.note,
    )
