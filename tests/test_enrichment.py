"""Units named by what is known of the images, and what others have recorded of two networks."""

import math
import re
import tomllib
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.data import assets
from helpers.data.imagenet import CLASSES
from helpers.dissect import clip, enrichment, published, recorded
from helpers.run.errors import WorkbookError

# ---- the branches ------------------------------------------------------------------------------


def test_every_imagenet_class_has_one_branch():
    table = tomllib.loads(enrichment._BRANCHES.read_text())
    listed = [name for names in table.values() for name in names]
    assert sorted(listed) == sorted(CLASSES)
    assert len(listed) == len(set(listed)) == 1000
    for branch, names in table.items():
        rows = [CLASSES.index(name) for name in names]
        assert rows == sorted(rows), f"{branch} is not in the order of the WordNet ids"
    assert enrichment.branches()["beagle"] == "dog"
    assert enrichment.NO_NAME in table


@pytest.mark.mirror
def test_the_classes_are_those_of_the_sorted_wordnet_ids():
    """The archive names its images by WordNet id and class: ours must be in the same order."""
    with zipfile.ZipFile(assets.fetch("imagenet_samples").path) as archive:
        names = sorted(n.rpartition("/")[2] for n in archive.namelist() if n.endswith(".JPEG"))
    assert len(names) == len(CLASSES)

    def plain(name):
        return re.sub(r"[^a-z]", "", name.lower())

    theirs = [plain(name.partition("_")[2].removesuffix(".JPEG")) for name in names]
    ours = [plain(name) for name in CLASSES]
    assert [a for a, b in zip(ours, theirs, strict=True) if a != b and b not in a] == []
    assert {enrichment.branches()[name] for name in CLASSES[151:269]} == {"dog"}


# ---- names by exact tests ----------------------------------------------------------------------


@pytest.fixture
def planted():
    """200 images; units 0 and 1 follow a concept each, 2 to 19 nothing, 20 is silent."""
    rng = np.random.default_rng(0)
    known = pd.DataFrame(
        rng.random((200, 4)) < 0.2,
        columns=pd.MultiIndex.from_tuples(
            [("object", "dog"), ("object", "orange"), ("colour", "orange"), ("colour", "red")]
        ),
    )
    values = rng.random((200, 21))
    values[:, 0] += known["object", "dog"]
    values[:, 1] += known["colour", "orange"]
    values[:, 20] = 0.5
    return {"layer1": torch.tensor(values[:, :10]), "layer2": torch.tensor(values[:, 10:])}, known


def test_units_are_named_after_what_their_images_share(planted):
    activations, known = planted
    table = enrichment.name_units("ours", activations, known)
    assert table.label[:2].tolist() == ["dog", "orange"]
    assert table.label[2:].isna().all()
    assert table.category[:2].tolist() == ["object", "colour"]
    assert table.attrs["name"] == "ours"
    assert table.score[2:].isna().all()


def test_the_score_is_the_exact_probability(planted):
    activations, known = planted
    table = enrichment.name_units("ours", activations, known)
    dogs = known["object", "dog"].to_numpy()
    top = activations["layer1"][:, 0].argsort(descending=True)[:10].numpy()
    hits, m = dogs[top].sum(), dogs.sum()
    p = sum(math.comb(m, j) * math.comb(200 - m, 10 - j) for j in range(hits, 11))
    assert table.score[0] == pytest.approx(-math.log10(p / math.comb(200, 10)), rel=1e-5)


def test_names_are_rare_where_there_is_nothing_to_name():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(20):
        known = pd.DataFrame(rng.random((200, 10)) < 0.1).set_axis(
            pd.MultiIndex.from_tuples([("object", f"{i}") for i in range(10)]), axis=1
        )
        noise = {"layer": torch.tensor(rng.random((200, 50)))}
        wrong += enrichment.name_units("noise", noise, known).label.notna().any()
    assert wrong <= 4  # at 5 % one is expected; uncorrected it would be all 20


def test_names_hold_for_images_that_were_held_out(planted):
    activations, known = planted
    tables, beats = enrichment.held_out(activations, known)
    assert len(tables) == 10
    assert all(table.label[0] == "dog" for table in tables)
    dogs = known["object", "dog"].to_numpy()
    assert (beats.layer1[dogs] > 0.8).mean() > 0.8
    assert beats.layer1[~dogs & ~known["colour", "orange"]].isna().mean() > 0.9
    assert beats.layer2.isna().mean() > 0.9


def test_too_few_images_are_refused(planted, one_line):
    activations, known = planted
    few = {layer: values[:3] for layer, values in activations.items()}
    with pytest.raises(WorkbookError) as error:
        enrichment.name_units("few", few, known[:3])
    one_line(error, "3 probe images", "use more")


def test_the_jackknife_of_a_mean_is_its_t_interval():
    groups = np.random.default_rng(0).normal(3, 1, 10)
    found = enrichment.jackknife(groups.mean(), [np.delete(groups, i).mean() for i in range(10)])
    half = 2.262 * groups.std(ddof=1) / math.sqrt(10)
    assert found.value == pytest.approx(groups.mean())
    assert found.high - found.value == pytest.approx(half, rel=1e-3)


def test_an_image_of_other_thing_is_of_no_kind():
    found = enrichment.kinds(["dog", "bird", enrichment.NO_NAME, "dog"])
    assert list(found) == [("object", "bird"), ("object", "dog")]
    assert found["object", "dog"].tolist() == [True, False, False, True]
    assert not found.iloc[2].any()


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("colour", "red"), ("colour", "blue"), ("colour", "brown"), ("colour", "grey"),
        ("texture", "vertical lines"), ("texture", "horizontal lines"),
        ("texture", "diagonal lines"),
    ],
)  # fmt: skip
def test_looks_are_measured_from_pixels(category, name):
    paint = {"red": (0.9, 0.1, 0.1), "blue": (0.1, 0.2, 0.9), "brown": (0.45, 0.25, 0.1),
             "grey": (0.5, 0.5, 0.5)}  # fmt: skip
    images = torch.rand(20, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    waves = {"vertical lines": x, "horizontal lines": y, "diagonal lines": x + y}
    if name in paint:
        images[0] = torch.tensor(paint[name])[:, None, None]
    else:
        images[0] = 0.5 + 0.4 * torch.sin(waves[name] / 2.0)
    found = enrichment.looks(images)
    assert found.loc[0, (category, name)]
    assert found[category].iloc[0].sum() <= 3
    assert (found.sum() <= 2).all()


# ---- recordings --------------------------------------------------------------------------------


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror with words, and whatever is written as their embeddings."""

    def make(rows):
        (tmp_path / "words.txt").write_text("dog\nred\nsky\n")
        torch.save(rows, tmp_path / "rows.pt")
        text = ""
        for name, file in (("concepts_broden", "words.txt"), (recorded.WORDS["broden"], "rows.pt")):
            digest = assets.pooch.file_hash(str(tmp_path / file))
            text += f'[{name}]\nfile = "{file}"\nsha256 = "{digest}"\n'
        (tmp_path / "mirror.toml").write_text(text)
        monkeypatch.setenv("WORKBOOK_MIRROR", str(tmp_path))

    return make


def test_recorded_words_have_unit_length(mirror):
    mirror(3 * torch.ones(3, 4, dtype=torch.float16))
    words, rows = recorded.words("broden")
    assert words == ("dog", "red", "sky")
    torch.testing.assert_close(rows, torch.full((3, 4), 0.5))


@pytest.mark.parametrize(
    ("rows", "words"), [(torch.ones(2, 4), "2 rows for 3 words"), ({"a": 1}, "another file")]
)
def test_a_recording_that_does_not_fit_is_refused(mirror, rows, words, one_line):
    mirror(rows)
    with pytest.raises(WorkbookError) as error:
        recorded.words("broden")
    one_line(error, words)


def test_without_a_mirror_nothing_is_recorded(one_line):
    assert not recorded.available()
    with pytest.raises(WorkbookError) as error:
        recorded.activations(published.IMAGENET)
    one_line(error, "recorded_resnet18_imagenet_samples")


def test_classes_find_their_names_in_a_list():
    listed = ("crane", "beagle", "maillot")
    rows = recorded.rows_of_classes(("Beagle", "crane bird", "crane", "maillot tank suit"), listed)
    assert rows.tolist() == [1, 0, 0, 2]


@pytest.mark.mirror
def test_the_flawed_embeddings_fail_the_check_and_gave_the_published_names():
    words, rows = recorded.words("imagenet_names")
    nearness = clip.images_by_words(recorded.flawed_images(), rows)
    of_class = recorded.rows_of_classes(CLASSES, words)
    assert (nearness.argmax(dim=1) == of_class).sum() == 97
    tables = published.clip_dissect()
    for network in (published.IMAGENET, published.PLACES):
        ours = clip.clip_dissect(recorded.activations(network), nearness, words, name=network)
        theirs = tables[network, "ImageNet probe"]
        assert ours.label.tolist() == theirs.label.tolist()


@pytest.mark.mirror
def test_two_networks_are_named_by_what_is_known():
    known = enrichment.kinds([enrichment.branches()[name] for name in CLASSES])
    commonest = {}
    for network in (published.IMAGENET, published.PLACES):
        table = enrichment.name_units(network, recorded.activations(network), known)
        assert len(table) == 896
        commonest[network] = table[table.layer == "layer4"].label.value_counts().index[0]
        shuffled = known.sample(frac=1, random_state=0).reset_index(drop=True)
        by_chance = enrichment.name_units(network, recorded.activations(network), shuffled)
        assert by_chance.label.notna().sum() <= 10
    assert commonest == {"ImageNet": "dog", "Places365": "land vehicle"}
