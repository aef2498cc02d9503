"""Concepts: the words that may name a unit, and the category each belongs to."""

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from helpers.data import assets
from helpers.data.imagenet import CLASSES as IMAGENET_CLASSES
from helpers.run.errors import WorkbookError, unknown

CATEGORIES = ("object", "scene", "part", "texture", "colour", "other")
SETS = {  # name -> asset, or None for the class names of ImageNet
    "3k": "concepts_3k",
    "10k": "concepts_10k",
    "20k": "concepts_20k",
    "broden": "concepts_broden",
    "imagenet": None,
}

# Our own annotation; the file says how it was made.
_TABLE = Path(__file__).parents[2] / "data" / "concepts" / "categories.toml"
_PLACE_ENDINGS = ("indoor", "outdoor", "interior", "exterior")
_IRREGULAR = {
    "areas": "area", "bananas": "banana", "buses": "bus", "cameras": "camera",
    "campuses": "campus", "cinemas": "cinema", "cookies": "cookie", "menus": "menu",
    "potatoes": "potato", "scarves": "scarf", "seas": "sea", "skis": "ski", "spas": "spa",
    "taxis": "taxi", "teas": "tea", "ties": "tie", "tomatoes": "tomato", "villas": "villa",
    "wolves": "wolf",
}  # fmt: skip


def words(concept_set: str) -> tuple[str, ...]:
    """Return the words of a concept set, each once, in their order.

    Args:
        concept_set: a key of :data:`SETS`, or ``"file:PATH"`` for a list of the reader's own, one
            word a line.

    Raises:
        WorkbookError: no such set, it cannot be fetched or read, or it is empty.
    """
    kind, _, path = concept_set.partition(":")
    if kind == "file" and path:
        return clean(read(Path(path)), path)
    if concept_set not in SETS:
        raise unknown("concept set", concept_set, [*SETS, "file:PATH"])
    asset = SETS[concept_set]
    lines = IMAGENET_CLASSES if asset is None else read(assets.fetch(asset).path)
    return clean(lines, concept_set)


def clean(lines: Iterable[str], name: str = "this list") -> tuple[str, ...]:
    """Drop empty lines and repetitions; CLIP reads no capitals, so "Bass" repeats "bass".

    Raises:
        WorkbookError: nothing is left.
    """
    kept: dict[str, str] = {}
    for line in lines:
        word = " ".join(line.split())
        kept.setdefault(word.casefold(), word)
    kept.pop("", None)
    if not kept:
        raise WorkbookError(f"the concept set {name} is empty: give at least one word, one a line")
    return tuple(kept.values())


def category(word: str) -> str:
    """Return the category of a word, one of :data:`CATEGORIES`; "other" if nothing is known."""
    return _lookup(word) or "other"


def known(word: str) -> bool:
    """Say whether the category of a word comes from the table or a rule, not from ignorance."""
    return _lookup(word) is not None


def singular(word: str) -> str:
    """Return a word without capitals and plural, so that "Galleries" equals "gallery".

    A word that only looks like a plural stays ("bus", "atlas"). What libraries of English do to
    the words of our sets is worse: they are lists of names, tags and nouns, not sentences.
    """
    word = word.casefold().strip()
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is", "as")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]


@cache
def _lookup(word: str) -> str | None:
    """Try the word, its singular, class names of ImageNet, endings, and the last word."""
    table, classes, heads = _tables()
    word = " ".join(word.replace("_", " ").split()).casefold()
    forms = [word, singular(word)]
    for form in forms:
        if form in table:
            return table[form]
    if not classes.isdisjoint(forms):
        return "object"
    name, _, variant = word.partition("-")
    if variant in _PLACE_ENDINGS:
        return "scene"
    if variant and (found := _lookup(name)):
        return found
    head = word.rpartition(" ")[2]
    if head != word:
        return _lookup(head)
    return None if heads.isdisjoint(forms) else "object"


@cache
def _tables() -> tuple[dict[str, str], frozenset[str], frozenset[str]]:
    """Return word -> category, the ImageNet class names, and the last words of those."""
    by_category = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    table = {word: name for name, listed in by_category.items() for word in listed}
    classes = frozenset(name.casefold() for name in IMAGENET_CLASSES)
    heads = frozenset(head for name in classes if len(head := name.split()[-1]) > 2)
    return table, classes, heads


def read(path: Path) -> list[str]:
    """Return the lines of a list of words as they stand.

    Raises:
        WorkbookError: it can't be read as text.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbookError(
            f"{path.name} is no readable list of words: give a UTF-8 text file, one word a line"
        ) from error
