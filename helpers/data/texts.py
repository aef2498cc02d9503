"""The one type that all text data sets are handed out as, and the parts of a news article."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from helpers.run.errors import unknown

PARTS = ("header", "subject", "quotes", "footer", "body")

# Lines that quote, and lines that introduce a quotation.
_QUOTE = re.compile(
    r"(writes in|writes:|wrote:|says:|said:|^In article|^Quoted from|^\||^>)"
)  # fmt: skip


# A long header line goes on in lines that begin with a blank.
_SUBJECT = re.compile(r"^Subject:.*(?:\n[ \t].*)*\n?", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class TextSet:
    """Texts with their classes.

    Attributes:
        name: of the data set.
        split: ``"train"`` or ``"test"``.
        texts: N documents.
        labels: int64 [N], class indices.
        class_names: K names.
        ids: N names of documents that last.
        note: how the texts differ from the original ones, in words; empty if they do not.
        deciding: per class the words that make it, where that is known; else empty.
    """

    name: str
    split: str
    texts: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    note: str = ""
    deciding: tuple[frozenset[str], ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: slice | Iterable[int]) -> TextSet:
        """Return some of the documents: a slice, indices, or a bool array [N]."""
        kept = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)]
        return replace(
            self,
            texts=tuple(self.texts[i] for i in kept),
            labels=self.labels[kept],
            ids=tuple(self.ids[i] for i in kept),
        )

    def only(self, *names: str) -> TextSet:
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
    header, _, rest = text.partition("\n\n")
    subject = _SUBJECT.search(header)
    lines = rest.strip().split("\n")
    rules = [i for i, line in enumerate(lines) if not line.strip().strip("-")]
    end = rules[-1] if rules and rules[-1] > 0 else len(lines)
    quoted = [bool(_QUOTE.search(line)) for line in lines[:end]]
    return {
        "header": _SUBJECT.sub("", header, count=1),
        "subject": subject[0].rstrip() if subject else "",
        "quotes": "\n".join(line for line, q in zip(lines, quoted, strict=False) if q),
        "footer": "\n".join(lines[end:]),
        "body": "\n".join(line for line, q in zip(lines[:end], quoted, strict=True) if not q),
    }
