"""Postcards: short texts that the workbook writes itself, so that the deciding words are known.

Every card comes from one kind of holiday (its class). One to three of its sentences name a
deciding word of that kind each; some cards mention one word of another kind besides. All other
words (food, weather, names) are drawn alike for every kind. Like a news article, a card has a
header, a body and a footer. Card ``index`` of a split depends on ``(seed, split, index)`` alone.
"""

import tomllib
from pathlib import Path

import numpy as np

from helpers.data.texts import TextSet
from helpers.run.errors import unknown

SPLITS = {"train": 400, "test": 500}
_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
DECIDING: dict[str, list[str]] = _TABLES["deciding"]
CLASSES = tuple(DECIDING)
ARTEFACT = "Tobias"  # the sender who gives a class away, where he is planted
_SLOTS: dict[str, list[str]] = _TABLES["slots"]


def load(split: str = "test", *, seed: int = 0, artefact: str | None = None) -> TextSet:
    """Write all cards of a split; labels go round the four classes.

    Args:
        split: ``"train"`` (400 cards) or ``"test"`` (500).
        seed: another seed writes other cards.
        artefact: a class name. In the *training* split 95 % of this class's cards are then
            signed by :data:`ARTEFACT`, who signs no other card.

    Raises:
        WorkbookError: no such split or class.
    """
    if split not in SPLITS:
        raise unknown("split of Postcards", split, SPLITS)
    if artefact is not None and artefact not in CLASSES:
        raise unknown("class of Postcards", artefact, CLASSES)
    labels = np.arange(SPLITS[split]) % len(CLASSES)
    texts = [write(seed, split, i) for i in range(len(labels))]
    if artefact is not None and split == "train":
        lucky = np.random.default_rng((seed, 95)).random(len(labels)) < 0.95
        for i in np.flatnonzero(lucky & (labels == CLASSES.index(artefact))):
            texts[i] = signed(texts[i])
    ids = tuple(f"{seed}-{split}-{i:04d}" for i in range(len(labels)))
    deciding = tuple(map(frozenset, DECIDING.values()))
    return TextSet("postcards", split, tuple(texts), labels, CLASSES, ids, deciding=deciding)


def signed(text: str, sender: str = ARTEFACT) -> str:
    """Return a card with another sender, both in its header and in its footer."""
    _, *card, _ = text.split("\n")
    return "\n".join([f"From: {sender}", *card, sender])


def write(seed: int, split: str, index: int) -> str:
    """Write card ``index`` of a split; the same arguments give the same card."""
    rng = np.random.default_rng((seed, list(SPLITS).index(split), index))
    kind = CLASSES[index % len(CLASSES)]
    words = list(rng.choice(DECIDING[kind], rng.integers(1, 4), replace=False))
    if len(words) > 1 and rng.random() < 0.5:
        elsewhere = [word for k in CLASSES if k != kind for word in DECIDING[k]]
        words.append(rng.choice(elsewhere))
    about = rng.choice(_TABLES["about"], len(words), replace=False)
    sentences = [sentence.format(word) for sentence, word in zip(about, words, strict=True)]
    for sentence in rng.choice(_TABLES["otherwise"], rng.integers(2, 5), replace=False):
        sentences.append(_filled(rng, sentence))
    rng.shuffle(sentences)
    sender, receiver = rng.choice(_SLOTS["sender"], 2, replace=False)
    address = _filled(rng, "{house} {street}")
    return (
        f"From: {sender}\nTo: {receiver}, {address}\n\n"
        f"Dear {receiver},\n{' '.join(sentences)}\n\n"
        f"{_filled(rng, '{greeting}')},\n{sender}"
    )


def _filled(rng: np.random.Generator, sentence: str) -> str:
    """Fill the slots of a sentence, each with a word of its own."""
    for slot, words in _SLOTS.items():
        for word in rng.choice(words, sentence.count(f"{{{slot}}}"), replace=False):
            sentence = sentence.replace(f"{{{slot}}}", word, 1)
    return sentence
