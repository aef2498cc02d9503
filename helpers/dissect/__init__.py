"""Network dissection: what single units of a network detect, in words.

- :mod:`.netdissect`: NetDissect, on images whose pixels are labelled;
- :mod:`.similarity` and :mod:`.clip`: CLIP-Dissect, on any images;
- :mod:`.units`: tables of labelled units, and comparisons of them;
- :mod:`.concepts`: concept sets, and the category of each word;
- :mod:`.published`: labels that others have computed.
"""

from helpers.dissect import clip, concepts, netdissect, published, similarity, units
from helpers.dissect.clip import clip_dissect, unit_activations
from helpers.dissect.netdissect import Dissection, ablated, dissect
from helpers.dissect.similarity import SIMILARITIES, soft_wpmi
from helpers.dissect.units import agreement, compare

__all__ = [
    "SIMILARITIES", "Dissection", "ablated", "agreement", "clip", "clip_dissect", "compare",
    "concepts", "dissect", "netdissect", "published", "similarity", "soft_wpmi",
    "unit_activations", "units",
]  # fmt: skip
