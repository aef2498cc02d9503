"""What the notebooks of Look Inside share, in seven rooms; a room imports only from those below it.

- :mod:`.course`: what only a course needs: exercise checks, explorers, hand-ins;
- :mod:`.dissect`: what does a unit detect? NetDissect, CLIP-Dissect, concepts, labels;
- :mod:`.measure`: is an explanation any good? agreement, faithfulness, sanity, statistics;
- :mod:`.explain`: one call for every method: CAMs, gradients, hiding, text, baselines;
- :mod:`.nets`: networks: build, load, train, record what layers put out, cut and fold;
- :mod:`.data`: pictures and texts, and where every byte comes from;
- :mod:`.run`: profiles, results, figures, files, errors.
"""
