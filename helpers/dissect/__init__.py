"""Network dissection: what single units of a network detect, in words.

- :mod:`.netdissect`: NetDissect, on images whose pixels are labelled;
- :mod:`.similarity` and :mod:`.clip`: CLIP-Dissect, on any images;
- :mod:`.enrichment`: names from what is known of the images, by exact tests;
- :mod:`.units`: tables of labelled units, and comparisons of them;
- :mod:`.concepts`: concept sets, and the category of each word;
- :mod:`.published` and :mod:`.recorded`: labels that others have computed, and what networks put
  out that others have run.
"""
