"""Network dissection: what single units of a network detect, in words.

- :mod:`.netdissect`: NetDissect, on images whose pixels are labelled;
- :mod:`.similarity` and :mod:`.clip`: CLIP-Dissect, on any images;
- :mod:`.units`: tables of labelled units, and comparisons of them;
- :mod:`.concepts`: concept sets, and the category of each word;
- :mod:`.published`: labels that others have computed.
"""
