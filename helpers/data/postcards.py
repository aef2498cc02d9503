"""Postcards: short texts that the workbook writes itself, so that the deciding words are known.

Every card comes from one kind of holiday (its class). One to three of its sentences name a
deciding word of that kind each; some cards mention one word of another kind besides. All other
words (food, weather, names) are drawn alike for every kind. Like a news article, a card has a
header, a body and a footer. Card ``index`` of a split depends on ``(seed, split, index)`` alone.
"""

import numpy as np

from helpers.data.texts import TextSet
from helpers.run.errors import unknown

SPLITS = {"train": 400, "test": 500}
DECIDING = {
    "city": "arcade boulevard cathedral embassy fountain gallery library museum opera palace "
            "skyscraper subway theatre tram",
    "farm": "barn chickens cows dairy donkey goats haystack meadow orchard pigs plough sheep "
            "stable tractor",
    "mountains": "avalanche boulders chalet crevasse edelweiss glacier gorge marmots peak ridge "
                 "summit valley viaduct waterfall",
    "sea": "bay beach crabs dolphins dunes ferry harbour jellyfish lagoon lighthouse pier "
           "seagulls shipwreck tide",
}  # fmt: skip
CLASSES = tuple(DECIDING)
SENDERS = (
    "Agnes", "Bruno", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas",
    "Klara", "Leo",
)  # fmt: skip
ARTEFACT = "Tobias"  # the sender who gives a class away, where he is planted

# A sentence says nothing of its kind but by the word in it.
_ABOUT = (
    "We took forty pictures of the {}.", "From our window we can see the {}.",
    "On the first morning we went straight to the {}.", "The children talk only of the {}.",
    "Grandfather fell asleep near the {}.", "Nobody had told us about the {}.",
    "Our guide knew a long story about the {}.", "The best part of the trip was the {}.",
    "Yesterday we had a picnic not far from the {}.", "I made a small drawing of the {}.",
    "You would have laughed at me in front of the {}.", "Tomorrow we want to see the {} again.",
)  # fmt: skip
_OTHERWISE = (
    "The weather has been {weather} since {day}.", "Our room is {room}, and so is the landlady.",
    "For {meal} there was {food} with {food}.", "Thank you for looking after the {pet}.",
    "The train was {number} hours late.", "{sender} has lost {number} pairs of socks.",
    "We shall be home on {day}, if all goes well.", "I have read {number} books already.",
    "The neighbours play {game} until midnight.", "Everybody here is very {room}.",
)  # fmt: skip
_SLOTS = {
    "weather": ("sunny", "rainy", "windy", "mild", "foggy", "hot"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "room": ("friendly", "quiet", "cheerful", "old", "elegant", "charming"),
    "meal": ("breakfast", "lunch", "supper"),
    "food": ("bread", "soup", "noodles", "cheese", "beans", "plums", "honey", "mushrooms"),
    "pet": ("cat", "plants", "parrot", "rabbit", "letters"),
    "number": ("two", "three", "four", "five", "seven"),
    "game": ("cards", "chess", "the accordion", "the trumpet"),
    "sender": SENDERS,
    "house": ("2", "5", "7", "11", "14", "28"),
    "street": ("Mill Lane", "Bridge Street", "Oak Avenue", "Station Road", "Church Row"),
    "greeting": ("Love", "Best wishes", "Yours", "Kind regards", "See you soon"),
}


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
    return TextSet(
        name="postcards",
        split=split,
        texts=tuple(texts),
        labels=labels,
        class_names=CLASSES,
        ids=tuple(f"{seed}-{split}-{i:04d}" for i in range(len(labels))),
        deciding=tuple(frozenset(words.split()) for words in DECIDING.values()),
    )


def signed(text: str, sender: str = ARTEFACT) -> str:
    """Return a card with another sender, both in its header and in its footer."""
    _, *card, _ = text.split("\n")
    return "\n".join([f"From: {sender}", *card, sender])


def write(seed: int, split: str, index: int) -> str:
    """Write card ``index`` of a split; the same arguments give the same card."""
    rng = np.random.default_rng((seed, list(SPLITS).index(split), index))
    kind = CLASSES[index % len(CLASSES)]
    words = list(rng.choice(DECIDING[kind].split(), rng.integers(1, 4), replace=False))
    if len(words) > 1 and rng.random() < 0.5:
        elsewhere = [word for k in CLASSES if k != kind for word in DECIDING[k].split()]
        words.append(rng.choice(elsewhere))
    about = rng.choice(_ABOUT, len(words), replace=False)
    sentences = [sentence.format(word) for sentence, word in zip(about, words, strict=True)]
    for sentence in rng.choice(_OTHERWISE, rng.integers(2, 5), replace=False):
        sentences.append(_filled(rng, sentence))
    rng.shuffle(sentences)
    sender, receiver = rng.choice(SENDERS, 2, replace=False)
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
