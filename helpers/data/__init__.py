"""Pictures and texts by name, and where every byte comes from."""

from helpers.data.sets import TEXTS, ImageSet, TextSet, class_names, identity, load, load_text

__all__ = ["TEXTS", "ImageSet", "TextSet", "class_names", "identity", "load", "load_text"]
