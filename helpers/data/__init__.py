"""Pictures and texts by name, and where every byte comes from."""

from helpers.data.sets import (
    NAMES,
    SPLITS,
    TEXTS,
    ImageSet,
    TextSet,
    class_names,
    identity,
    load,
    load_text,
)

__all__ = [
    "NAMES",
    "SPLITS",
    "TEXTS",
    "ImageSet",
    "TextSet",
    "class_names",
    "identity",
    "load",
    "load_text",
]
