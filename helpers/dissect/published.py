"""Labels of two ResNet-18 that others have computed and published, with what they say of them.

They are only to be had from a mirror. Their settings are those that their notes state; whether
the labels bear them out is for the reader to check (:func:`vocabulary`).
"""

from pandas import DataFrame

from helpers.data import assets
from helpers.dissect import concepts, units

IMAGENET, PLACES = "ImageNet", "Places365"

# (network, setting) -> asset. The first setting is the main one.
CLIP_DISSECT = {
    (network, setting): f"published_labels_clip_dissect_resnet18_{network.lower()}_{name}"
    for network in (IMAGENET, PLACES)
    for setting, name in {
        "20k words, Broden probe": "broden_probe_20k",
        "10k words, Broden probe": "10k_words",
        "ImageNet probe": "imagenet_probe",
    }.items()
} | {
    (PLACES, "20k words, ImageNet + Broden probe"): (
        "published_labels_clip_dissect_resnet18_places365_imagenet_broden_20k"
    ),
}
NETDISSECT = "published_labels_netdissect_resnet18_places365_layer4"


def available() -> bool:
    """Say whether the tables can be read without a network."""
    return all(assets.available(name) for name in (*CLIP_DISSECT.values(), NETDISSECT))


def clip_dissect() -> dict[tuple[str, str], DataFrame]:
    """Return the labels by (network, setting), layers 2 to 4 of each.

    Raises:
        WorkbookError: the mirror does not hold them.
    """
    found = {}
    for (network, setting), name in CLIP_DISSECT.items():
        asset = assets.fetch(name)
        table = units.read_csv(asset.path, f"{network}: {setting}", asset.note)
        found[network, setting] = table[table.layer.str[-1].isin(["2", "3", "4"])]
    return found


def netdissect() -> DataFrame:
    """Return NetDissect's labels of the last layer of the Places365 network.

    Raises:
        WorkbookError: the mirror does not hold them.
    """
    asset = assets.fetch(NETDISSECT)
    return units.read_netdissect(asset.path, "layer4", f"{PLACES}: NetDissect", asset.note)


def vocabulary(labels: DataFrame, concept_set: str) -> float:
    """Return the share of the labels that are words of a concept set: 1 if it was used."""
    words = {word.casefold() for word in concepts.words(concept_set)}
    return float(labels.label.dropna().str.casefold().isin(words).mean())
