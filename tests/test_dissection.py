"""NetDissect, tables of labelled units, and concept sets: right numbers, clear refusals."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers import data
from helpers.course import explorers
from helpers.data import assets, places
from helpers.dissect import concepts, netdissect, published, units
from helpers.nets import models
from helpers.run.errors import WorkbookError

LAYERS = ["layer1", "layer3"]


@pytest.fixture(scope="module")
def classifier():
    return models.build("shapes_net", tuple("abcdefghij"), 64)


@pytest.fixture(scope="module")
def probe():
    return data.load("shapes", "test", 30)


@pytest.fixture(scope="module")
def found(classifier, probe):
    return netdissect.dissect(classifier, LAYERS, probe, share=0.01, batch_size=8)


def maps_of(classifier, layer, images):
    network, maps = classifier.network, []
    hook = classifier.layer(layer).register_forward_hook(lambda _m, _i, o: maps.append(o))
    with torch.no_grad():
        network(classifier.preprocess(images))
    hook.remove()
    return maps[0]


# ---- NetDissect --------------------------------------------------------------------------------


def test_thresholds_are_the_quantile_of_all_activations(classifier, probe, found):
    for layer in LAYERS:
        maps = maps_of(classifier, layer, probe.images).transpose(0, 1).flatten(1)
        cut = found[layer].thresholds
        k = int(0.01 * maps.shape[1])
        torch.testing.assert_close(cut, maps.sort(dim=1, descending=True).values[:, k])
        assert (maps > cut[:, None] + 1e-5).sum(dim=1).max() <= k


def test_a_sampled_threshold_is_near_the_exact_one(classifier, probe):
    def cut(keep):
        return netdissect.thresholds(classifier, ["bn1"], probe.images, 0.05, keep=keep)["bn1"]

    maps = maps_of(classifier, "bn1", probe.images).transpose(0, 1).flatten(1)
    assert not torch.equal(cut(1000), cut(20_000))
    assert ((maps > cut(20_000)[:, None]).float().mean(dim=1) - 0.05).abs().max() < 1e-4
    assert ((maps > cut(1000)[:, None]).float().mean(dim=1) - 0.05).abs().max() < 0.01


def test_iou_is_that_of_the_pixels(classifier, probe, found):
    """The definition, unit by unit and concept by concept."""
    for layer in LAYERS:
        d, maps = found[layer], maps_of(classifier, layer, probe.images)
        maps = F.interpolate(maps, (64, 64), mode="bilinear")
        for unit in (0, 7, 20):
            on = maps[:, unit] > d.thresholds[unit]
            assert d.on[unit] == pytest.approx(on.float().mean().item(), abs=1e-4)
            for column, concept in enumerate(d.concepts):
                there = probe.concept_masks(*concept)
                iou = ((on & there).sum() / (on | there).sum()).item()
                assert d.iou[unit, column] == pytest.approx(iou, abs=2e-3)
                assert d.area[column] == pytest.approx(there.float().mean().item(), abs=1e-5)


def test_chance_uses_the_labels_of_other_images(classifier, probe, found):
    rows = torch.randperm(len(probe), generator=torch.Generator().manual_seed(0))
    others = replace(probe, concepts={k: v[rows] for k, v in probe.concepts.items()})
    mixed = netdissect.dissect(classifier, ["layer1"], others, share=0.01)["layer1"]
    torch.testing.assert_close(mixed.iou, found["layer1"].chance, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(found["layer1"].iou, found["layer1"].chance, atol=1e-3)


class Painted(nn.Module):
    """Units that are known: red, nothing (dead), constant, and the left half."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Identity()

    def forward(self, x):
        left = torch.zeros_like(x[:, 0])
        left[..., : x.shape[-1] // 2] = torch.rand(left[..., : x.shape[-1] // 2].shape) + 1
        out = torch.stack([x[:, 0], torch.zeros_like(left), torch.ones_like(left), left], dim=1)
        return self.conv(out).mean(dim=(2, 3))


@pytest.fixture
def known():
    """A classifier whose units are known, and a probe set labelled with the red pixels."""
    classifier = models.build("shapes_net", tuple("abcd"), 64)
    classifier.network = Painted()
    classifier.mean, classifier.std = (0.0,) * 3, (1.0,) * 3
    classifier.network.dummy = nn.Parameter(torch.zeros(1))
    torch.manual_seed(0)
    images = data.load("shapes", "test", 20)
    pixels = torch.randint(0, 100, images.pixels.shape, dtype=torch.uint8)
    pixels[:, 0, :8, :8] = torch.randint(200, 255, (20, 8, 8), dtype=torch.uint8)
    labels = torch.full((20, 64, 64), -1, dtype=torch.int8)
    labels[:, :8, :8] = 0
    return classifier, replace(
        images,
        pixels=pixels,
        concepts={"colour": labels},
        concept_names={"colour": ("red", "never")},
    )


def test_dead_and_constant_units_and_concepts_without_pixels(known):
    classifier, probe = known
    d = netdissect.dissect(classifier, ["conv"], probe, share=64 / 4096)["conv"]
    assert d.iou[0, 0] > 0.95
    assert d.iou[1:3].eq(0).all(), "dead and constant units are nowhere on"
    assert d.on[1:3].eq(0).all()
    assert d.area[1] == 0
    assert d.iou[:, 1].eq(0).all()
    assert d.iou.isfinite().all()
    assert d.detectors() == {0: 0}
    assert d.count() == {"colour": 1}
    assert d.count("concept") == {"colour: red": 1}
    table = netdissect.labels("known", {"conv": d})
    assert table.label.fillna("").tolist() == ["colour: red", "", "", ""]
    assert table.category.fillna("").tolist() == ["colour", "", "", ""]


def test_a_probe_set_without_labels_is_refused(classifier, probe, one_line):
    bare = replace(probe, concepts={}, concept_names={})
    with pytest.raises(WorkbookError) as error:
        netdissect.dissect(classifier, LAYERS, bare)
    one_line(error, "shapes has no pixel labels", "use a probe set")


@pytest.mark.parametrize(("layer", "words"), [("layer9", "layer9"), ("linear", "no height")])
def test_layers_that_cannot_be_dissected_are_named(classifier, probe, layer, words, one_line):
    with pytest.raises(WorkbookError) as error:
        netdissect.dissect(classifier, [layer], probe[:2])
    one_line(error, words, layer)
    assert not [m for m in classifier.network.modules() if m._forward_hooks]


@pytest.mark.parametrize(("name", "size"), [("resnet18", 32), ("shapes_vit", 64)])
def test_any_layer_of_any_model_can_be_dissected(name, size, probe):
    model = models.build(name, tuple("abc"), size)
    layer = model.architecture.stages[-1]
    d = netdissect.dissect(model, [layer], probe[:6], share=0.05)[layer]
    assert d.iou.shape == (model.map_size(layer)[0], 28)
    assert d.iou.max() > 0


def test_ablated_units_are_silent_inside_the_block_only(classifier, probe):
    images, before = probe.images[:4], classifier.logits(probe.images[:4])
    with netdissect.ablated(classifier, "layer3", [0, 5]):
        maps = maps_of(classifier, "layer3", images)
        assert maps[:, [0, 5]].eq(0).all()
        assert maps[:, 1].ne(0).any()
        assert not torch.equal(classifier.logits(images), before)
    assert torch.equal(classifier.logits(images), before)


def test_units_that_do_not_exist_cannot_be_ablated(classifier, one_line):
    with pytest.raises(WorkbookError) as error, netdissect.ablated(classifier, "layer3", [96]):
        pass
    one_line(error, "layer3", "no unit 96")


def test_a_layer_that_is_called_twice_is_refused_by_both(probe, one_line):
    model = models.build("resnet18", tuple("abc"), 64)
    with pytest.raises(WorkbookError) as error:
        netdissect.dissect(model, ["layer1.0.relu"], probe[:2])
    one_line(error, "layer1.0.relu", "several times", "layer1.0")
    with pytest.raises(WorkbookError), netdissect.ablated(model, "layer1.0.relu", [0]):
        model.logits(probe.images[:2])
    assert not [m for m in model.network.modules() if m._forward_hooks]


def test_tokens_are_ablated_by_channel(probe):
    vit = models.build("shapes_vit", tuple("abc"), 64)
    layer = vit.architecture.stages[0]
    with netdissect.ablated(vit, layer, [3]):
        tokens = maps_of(vit, layer, probe.images[:2])
    assert tokens[..., 3].eq(0).all()
    assert tokens[:, 3].ne(0).any()


# ---- tables of labelled units ------------------------------------------------------------------


def table(labels, name="table", layer="layer1"):
    """Units that are called so; "" is a silent one."""
    kinds = [concepts.category(word) if word else None for word in labels]
    scores = [1.0 + unit if word else math.nan for unit, word in enumerate(labels)]
    columns = [layer, range(len(labels)), [word or None for word in labels], scores, kinds]
    found = pd.DataFrame(dict(zip(units.COLUMNS, columns, strict=True)))
    found.attrs = {"name": name, "note": ""}
    return found


def test_each_unit_gets_its_best_word_and_silent_ones_none():
    scores = torch.tensor([[0.1, 0.9], [0.5, 0.2], [math.nan, math.nan]])
    found = units.from_scores("t", {"layer1": scores, "layer2": scores[:1]}, ["dog", "red"])
    assert list(found.columns) == units.COLUMNS
    assert found.label.fillna("").tolist() == ["red", "dog", "", "red"]
    assert found.category.fillna("").tolist() == ["colour", "object", "", "colour"]
    assert found.layer.tolist() == ["layer1"] * 3 + ["layer2"]
    assert found.unit.tolist() == [0, 1, 2, 0]
    assert math.isnan(found.score[2])
    assert found.score.dropna().tolist() == pytest.approx([0.9, 0.5, 0.9])
    assert (found.score >= 0.6).mean() == 2 / 4, "the share of labels that survive a cut-off"


def test_the_name_and_note_stay_with_a_table_through_what_one_does_with_it():
    found = table(["dog", "red", ""])
    found.attrs = {"name": "mine", "note": "by others"}
    for part in (
        found[found.layer == "layer1"], found.dropna(subset="label"), found.query("unit > 0"),
        found.sort_values("score"), found.nlargest(1, "score"), found.head(1),
        found.assign(unit=found.unit + 1), found.reset_index(drop=True), found.copy(),
    ):  # fmt: skip
        assert part.attrs == found.attrs
        assert units.name_of(part) == "mine"
    found.attrs.clear()
    assert units.name_of(found) == "this table"


def test_words_and_columns_must_match(one_line):
    with pytest.raises(WorkbookError) as error:
        units.from_scores("t", {"layer1": torch.rand(2, 3)}, ["dog", "red"])
    one_line(error, "layer1", "3 words, not 2")


def test_counts_and_shares_leave_out_units_without_a_label(one_line):
    found = table(["dog", "dog", "red", ""])
    assert found.label.value_counts().to_dict() == {"dog": 2, "red": 1}
    assert found.category.value_counts().to_dict() == {"object": 2, "colour": 1}
    assert units.share(found, "object")[:1] == (2 / 3,)
    assert units.share(found, "object").n == 3
    assert units.share(found, "scene").value == 0
    with pytest.raises(WorkbookError) as error:
        units.share(found[found.layer == "layer9"], "object")
    one_line(error, "table labels no unit", "layer")


def test_plural_and_capitals_make_no_new_concept():
    found = table(["Dog", "dogs", "galleries", "gallery", "boxes", "box", "red", ""])
    assert units.distinct(found) == {"dog", "gallery", "box", "red"}
    assert units.distinct(found, "colour") == {"red"}
    plurals = {"churches": "church", "Taxis": "taxi", "wolves": "wolf", "ties": "tie",
               "potatoes": "potato", "gloves": "glove", "houses": "house"}  # fmt: skip
    assert {word: concepts.singular(word) for word in plurals} == plurals
    for word in ("bus", "grass", "gas", "tennis", "atlas", "dog", "yes"):
        assert concepts.singular(word) == word


def test_networks_of_different_width_are_compared_by_concept():
    difference = units.compare(table(["dog", "dogs", "red"]), table(["cat", "red"] * 40))
    assert difference == ({"dog"}, {"red"}, {"cat"})
    assert units.compare(table(["dog", "red"]), table(["cat"]), "colour") == ({"red"}, set(), set())


def test_agreement_counts_units_that_both_label():
    a, b = table(["dog", "red", "cat", ""]), table(["dogs", "blue", "sky", "sky", "sky"])
    found = units.agreement(a, b)
    assert found.label.value == pytest.approx(1 / 3)
    assert found.label.n == 3
    assert found.category.value == 1
    assert found.label_by_chance == pytest.approx(1 / 9)
    assert found.category_by_chance == pytest.approx((2 * 2 + 1 * 1) / 9)


def test_tables_without_a_common_unit_are_not_compared(one_line):
    with pytest.raises(WorkbookError) as error:
        units.agreement(table(["dog"], "one"), table(["dog"], "two", layer="layer2"))
    one_line(error, "one", "two", "no unit in common")


def write(labels, path):
    """Write a table as CLIP-Dissect does."""
    columns = {"label": "description", "score": "similarity"}
    labels.drop(columns="category").rename(columns=columns).to_csv(path, index=False)


def test_a_table_is_read(tmp_path):
    found = table(["dog", "red, or pink", "cat"])
    write(found, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(units.read_csv(tmp_path / "t.csv", "table"), found)


def test_silent_units_and_odd_words_survive_a_file(tmp_path):
    """Some words are null, nan, NA or a number to pandas; some numbers have sixteen digits."""
    for words in (["null", "nan", "", "NA", *["dog"] * 96], ["1984", "360"]):
        found = table(words)
        found.score *= np.random.default_rng(0).random(len(words))
        write(found, tmp_path / "t.csv")
        again = units.read_csv(tmp_path / "t.csv", "table")
        pd.testing.assert_frame_equal(again, found, check_exact=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        "layer,unit,description\nlayer1,0,dog\n",
        "layer,unit,description,similarity\n",
        "layer,unit,description,similarity\nlayer1,0,dog,high\n",
    ],
)
def test_a_table_with_other_columns_is_refused(tmp_path, text, one_line):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(WorkbookError) as error:
        units.read_csv(tmp_path / "t.csv", "t")
    one_line(error, "t.csv", "column")


def test_netdissect_tables_are_counted_from_one(tmp_path):
    (tmp_path / "n.csv").write_text(
        "unit,category,label,score\n2,color,red-c,0.05\n1,scene,golf_course-s,0.08\n"
        "3,material,metal,0.01\n"
    )
    found = units.read_netdissect(tmp_path / "n.csv", "layer4", "n")
    assert found.to_numpy().tolist() == [
        ["layer4", 0, "golf course", 0.08, "scene"], ["layer4", 1, "red", 0.05, "colour"],
        ["layer4", 2, "metal", 0.01, "texture"],
    ]  # fmt: skip


@pytest.fixture
def browser():
    other = table(["dog"] * 40, "other", layer="layer2")
    return explorers.browse({"a": table(["Big Dog", "cat", "", "hot dog"], "mine"), "b": other})


def test_browsing_filters_by_table_layer_unit_and_word(browser):
    def found():
        return browser.table.label.tolist()

    assert found() == ["hot dog", "cat", "Big Dog"], "best score first, none without a label"
    browser.controls["word"].value = "DOG"
    assert found() == ["hot dog", "Big Dog"]
    browser.controls["unit"].value = "0"
    assert found() == ["Big Dog"]
    browser.controls["word"].value = "C++ ("
    assert found() == []
    assert "no unit" in browser.text
    browser.controls["word"].value = browser.controls["unit"].value = ""
    browser.controls["layer"].value = "layer2"
    assert found() == []
    browser.controls["table"].value = "other"
    assert found() == ["dog"] * 12
    assert "40 units" in browser.text
    assert "the first 12" in browser.text


def test_the_table_stands_where_widgets_cannot_be_shown(browser):
    path = Path(__file__).parents[1] / "scripts" / "render.py"
    spec = importlib.util.spec_from_file_location("render", path)
    render = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(render)
    bundle = browser._repr_mimebundle_()
    assert render.WIDGET in bundle
    (kept,) = render.clean_outputs([nbformat.v4.new_output("display_data", bundle)])
    assert set(kept.data) == {"text/html", "text/plain"}
    for text in kept.data.values():
        assert "mine" in text
        assert "hot dog" in text


def test_a_table_without_labels_is_not_browsed(one_line):
    with pytest.raises(WorkbookError) as error:
        explorers.browse({"a": table(["", ""], "mine")})
    one_line(error, "mine labels no unit", "dissect")


# ---- concept sets and categories ---------------------------------------------------------------


def test_duplicates_and_empty_lines_are_dropped_in_order():
    assert concepts.clean(["dog", "", " cat ", "Dog", "dog", "a  b"]) == ("dog", "cat", "a b")


@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_an_empty_concept_set_is_refused(lines, one_line):
    with pytest.raises(WorkbookError) as error:
        concepts.clean(lines, "mine")
    one_line(error, "mine", "empty")


def test_a_list_of_one_s_own_can_be_read(tmp_path, one_line):
    (tmp_path / "mine.txt").write_text("dog\nDog\ncat\n")
    assert concepts.words(f"file:{tmp_path / 'mine.txt'}") == ("dog", "cat")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    for path in ("bad.txt", "gone.txt"):
        with pytest.raises(WorkbookError) as error:
            concepts.words(f"file:{tmp_path / path}")
        one_line(error, path, "list of words")
    with pytest.raises(WorkbookError) as error:
        concepts.words("30k")
    one_line(error, "'30k'", "3k")


@pytest.mark.parametrize(
    ("word", "category"),
    [
        ("dog", "object"), ("Dogs", "object"), ("Border terrier", "object"), ("orange", "colour"),
        ("churches", "scene"), ("grocery store", "scene"), ("brewery-outdoor", "scene"),
        ("dotted", "texture"), ("wing", "part"), ("debian", "other"), ("wine cellar-x", "scene"),
        ("great_white_shark", "object"), ("qwertyuiop", "other"), ("glass", "texture"),
    ],
)  # fmt: skip
def test_words_have_the_category_one_expects(word, category):
    assert concepts.category(word) == category


def test_ignorance_is_told_from_the_category_other():
    assert concepts.known("debian")
    assert not concepts.known("qwertyuiop")


def test_the_table_of_categories_is_sorted_and_has_no_word_twice():
    import tomllib

    path = Path(concepts.__file__).parents[2] / "data" / "concepts" / "categories.toml"
    by_category = tomllib.loads(path.read_text())
    assert tuple(by_category) == concepts.CATEGORIES
    words = [word for listed in by_category.values() for word in listed]
    assert len(set(words)) == len(words)
    for listed in by_category.values():
        assert listed == sorted(listed)
        assert all(word == word.casefold().strip() for word in listed)


# ---- Places365 ---------------------------------------------------------------------------------


def fake_places(monkeypatch, tmp_path, lines=None, state=None):
    lines = lines or [f"/a/place_{i}/outdoor {i}" for i in range(365)]
    (tmp_path / "places.txt").write_text("\n".join(lines))
    fetch = lambda name: assets.Asset(name, tmp_path / "places.txt")  # noqa: E731
    monkeypatch.setattr(assets, "fetch", fetch)
    if state is not None:
        torch.save(state, tmp_path / "places.pth.tar")
        monkeypatch.setattr(
            assets, "fetch",
            lambda name: assets.Asset(
                name, tmp_path / ("places.txt" if "concepts" in name else "places.pth.tar")
            ),
        )  # fmt: skip


def test_names_of_places_are_readable(monkeypatch, tmp_path, one_line):
    fake_places(monkeypatch, tmp_path)
    assert places.classes()[3] == "place 3, outdoor"
    assert len(places.classes()) == 365
    fake_places(monkeypatch, tmp_path, ["/a/airfield 0", "/a/alley 7"])
    with pytest.raises(WorkbookError) as error:
        places.classes()
    one_line(error, "places.txt", "365 places")


def places_checkpoint(name="resnet18", classes=365):
    network = models.ARCHITECTURES[name].build(classes, False)
    weights = {f"module.{k}": v for k, v in network.state_dict().items()
               if not k.endswith("num_batches_tracked")}  # fmt: skip
    return network, {"epoch": 90, "arch": name, "state_dict": weights, "best_prec1": 54.7}


def test_the_places365_checkpoint_is_unwrapped(monkeypatch, tmp_path):
    network, checkpoint = places_checkpoint()
    fake_places(monkeypatch, tmp_path, state=checkpoint)
    classifier = models.pretrained("resnet18", "places365")
    assert len(classifier.class_names) == 365
    assert classifier.input_size == 224
    assert torch.equal(classifier.network.fc.weight.cpu(), network.fc.weight)


@pytest.mark.parametrize(
    ("name", "classes", "word"), [("resnet18", 1000, "fc.weight"), ("resnet50", 365, "conv3")]
)
def test_a_checkpoint_of_another_architecture_names_the_keys(
    monkeypatch, tmp_path, name, classes, word, one_line
):
    fake_places(monkeypatch, tmp_path, state=places_checkpoint(name, classes)[1])
    with pytest.raises(WorkbookError) as error:
        models.pretrained("resnet18", "places365")
    one_line(error, "places365_resnet18", "another architecture", word)


# ---- the mirror's labels -----------------------------------------------------------------------


@pytest.mark.mirror
def test_published_labels_are_read_with_their_provenance():
    tables = published.clip_dissect()
    assert len(tables) == 7
    for (network, setting), labels in tables.items():
        assert len(labels) == 896, (network, setting)
        assert labels.layer.unique().tolist() == ["layer2", "layer3", "layer4"]
        assert "labels" in labels.attrs["note"]
        assert network in labels.attrs["name"]
        assert np.isfinite(labels.score).all()
        unknown = {label for label in labels.label if not concepts.known(label)}
        assert not unknown, f"no category for {unknown}"
    broden = tables[published.PLACES, "20k words, Broden probe"]
    assert published.vocabulary(broden, "20k") == 1
    assert published.vocabulary(broden, "3k") < 0.5


@pytest.mark.mirror
def test_units_are_numbered_as_in_netdissect():
    """If one table were off by one, the agreement would be that of chance."""
    labels = published.clip_dissect()[published.PLACES, "20k words, Broden probe"]
    by_pixels = published.netdissect()
    assert len(by_pixels) == 512
    assert units.agreement(by_pixels, labels).label.value > 0.1
    for shift in (-1, 1):
        moved = by_pixels.assign(unit=by_pixels.unit + shift)
        assert units.agreement(moved, labels).label.value < 0.02


@pytest.mark.mirror
@pytest.mark.parametrize("concept_set", list(concepts.SETS))
def test_concept_sets_hold_each_word_once(concept_set):
    words = concepts.words(concept_set)
    assert len({word.casefold() for word in words}) == len(words) > 900
    assert "" not in words
