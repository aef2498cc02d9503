"""CLIP-Dissect: scores as the paper writes them, and the whole path with a tiny CLIP."""

import io
import json
import math
import multiprocessing
import os
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from helpers import data
from helpers.dissect import clip, concepts, similarity, units
from helpers.nets import models, recording
from helpers.run import files
from helpers.run.errors import WorkbookError

N, U, W = 60, 9, 40
MIN_PROB = 1e-7


@pytest.fixture
def tables():
    generator = torch.Generator().manual_seed(0)
    activations = torch.rand(N, U, generator=generator)
    return activations, 0.2 + 0.05 * torch.randn(N, W, generator=generator)


# ---- direct transcriptions: unit by unit, in double precision ----------------------------------


def soft_wpmi_directly(activations, table, top_k, temperature, lam, p_start, p_end):
    share = (temperature * table.double()).softmax(dim=1)
    rows = []
    for unit in activations.T:
        images = unit.argsort(descending=True)[:top_k]
        p = [p_start - k / top_k * (p_start - p_end) for k in range(top_k)]
        terms = [(1 + p[k] * (share[i] - 1) + MIN_PROB).log() for k, i in enumerate(images)]
        rows.append(sum(terms))
    log_prob = torch.stack(rows)
    return log_prob - lam * (log_prob.logsumexp(dim=0) - math.log(len(log_prob)))


def cosine_cubed_directly(activations, table):
    a, s = activations.double(), table.double()
    scores = torch.empty(a.shape[1], s.shape[1])
    for u in range(a.shape[1]):
        for w in range(s.shape[1]):
            x, y = (a[:, u] - a[:, u].mean()) ** 3, (s[:, w] - s[:, w].mean()) ** 3
            scores[u, w] = (x @ y) / max(x.norm(), 1e-3) / max(y.norm(), 1e-3)
    return scores


def rank_reorder_directly(activations, table, fraction=0.2):
    n = int(len(activations) * fraction)
    scores = torch.empty(activations.shape[1], table.shape[1])
    for u, unit in enumerate(activations.T):
        top = unit.argsort(descending=True)[:n]
        values = unit[top]
        chance = torch.stack([(values - v).abs() ** 3 for v in values]).mean()
        for w, word in enumerate(table.T):
            ranks = word[top].argsort().argsort()
            reordered = values.sort().values[ranks]
            error = ((values - reordered).abs() ** 3).mean() / chance
            scores[u, w] = -error / word[top].mean() ** 0.5
    return scores


@pytest.mark.parametrize("top_k", [1, 7, 60])
@pytest.mark.parametrize(("lam", "temperature"), [(1.0, 10.0), (0.6, 2.0), (0.0, 100.0)])
def test_soft_wpmi_is_the_paper_s_formula(tables, top_k, lam, temperature):
    found = similarity.soft_wpmi(*tables, top_k=top_k, lam=lam, temperature=temperature)
    expected = soft_wpmi_directly(*tables, top_k, temperature, lam, 0.998, 0.97)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))
    assert found.dtype == torch.float32


def test_wpmi_counts_every_image_fully(tables):
    found = similarity.wpmi(*tables, top_k=20)
    expected = soft_wpmi_directly(*tables, 20, 2.0, 0.6, 1.0, 1.0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)
    assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))


def test_certainty_does_not_overflow(tables):
    """Factors from 1e-7 to 1: the products are cut where a float32 ends."""
    activations, table = tables
    table = table.clone()
    table[:, 3] = 5.0
    for p in (0.5, 0.998, 1.0):
        found = similarity.soft_wpmi(activations, table, 60, 50.0, 0.0, p, p)
        expected = soft_wpmi_directly(activations, table, 60, 50.0, 0.0, p, p)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)


def test_cosine_cubed_is_the_cosine_of_cubes(tables):
    torch.testing.assert_close(
        similarity.cosine_cubed(*tables), cosine_cubed_directly(*tables), rtol=1e-3, atol=1e-4
    )


def test_rank_reorder_is_the_error_after_ranking_by_the_word(tables):
    torch.testing.assert_close(
        similarity.rank_reorder(*tables, top_fraction=0.2), rank_reorder_directly(*tables),
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("name", list(similarity.SIMILARITIES))
def test_every_similarity_finds_the_word_that_follows_the_unit(tables, name):
    activations, table = tables
    table = table.clone()
    for u in range(U):
        table[:, 4 * u] = 0.2 + 0.2 * activations[:, u] ** 2
    settings = {"top_fraction": 0.5} if name == "rank_reorder" else {}
    settings |= {"top_k": 10} if "wpmi" in name else {}
    found = similarity.SIMILARITIES[name](activations, table, **settings)
    assert found.argmax(dim=1).tolist() == [4 * u for u in range(U)]


# ---- silent units, ties, bad tables ------------------------------------------------------------


@pytest.mark.parametrize("name", list(similarity.SIMILARITIES))
def test_dead_and_constant_units_have_no_label_and_change_no_other(tables, name):
    activations, table = tables
    settings = {"top_k": 10} if "wpmi" in name else {}
    score = similarity.SIMILARITIES[name]
    silent = torch.cat([torch.zeros(N, 1), activations, torch.full((N, 1), 3.7)], dim=1)
    found = score(silent, table, **settings)
    assert found[[0, -1]].isnan().all()
    torch.testing.assert_close(found[1:-1], score(activations, table, **settings))
    labels = clip.clip_dissect({"layer": silent}, table, list(map(str, range(W))), name="t",
                               similarity=name, **settings)  # fmt: skip
    assert labels.label.isna().tolist() == [True] + [False] * U + [True]


def test_a_layer_of_silent_units_only_has_no_label(tables):
    found = similarity.soft_wpmi(torch.zeros(N, 4), tables[1], top_k=5)
    assert found.isnan().all()


def test_equal_activations_are_not_ranked_in_the_order_of_the_files():
    """A unit that fires on three of 100 sorted images is not named after the first classes."""
    activations = torch.zeros(100, 1)
    activations[97:] = 1
    table = torch.zeros(100, 2)
    table[:20, 0] = 1  # the first class
    table[97:, 1] = 1  # what it answers to
    ranked, _ = similarity.top_images(activations, table, 30)
    assert set(ranked[:3, 0].tolist()) == {97, 98, 99}
    assert 1 <= (ranked[3:, 0] < 20).sum() <= 12
    again, _ = similarity.top_images(activations, table, 30)
    assert torch.equal(ranked, again)


@pytest.mark.parametrize("name", list(similarity.SIMILARITIES))
def test_bad_tables_are_refused(tables, name, one_line):
    activations, table = tables
    score = similarity.SIMILARITIES[name]
    spoilt = table.clone()
    spoilt[0, 0] = math.nan
    for pair, words in (
        ((activations[:9], table), ("of the same images", "[9, 9]")),
        ((activations, table[:, :0]), ("no images, units or words", "concept set")),
        ((activations, spoilt), ("NaN",)),
    ):
        with pytest.raises(WorkbookError) as error:
            score(*pair)
        one_line(error, *words)


def test_fewer_images_than_top_k_are_refused(tables, one_line):
    with pytest.raises(WorkbookError) as error:
        similarity.soft_wpmi(*tables)
    one_line(error, "60 probe images", "top_k = 100")


def test_an_unknown_similarity_offers_the_known_ones(tables, one_line):
    with pytest.raises(WorkbookError) as error:
        clip.clip_dissect({"a": tables[0]}, tables[1], ["x"], name="t", similarity="soft-wpmi")
    one_line(error, "'soft-wpmi'", "soft_wpmi")


def test_shuffling_breaks_the_tie_between_images_and_units(tables):
    activations, table = tables
    words = list(map(str, range(W)))
    table = table.clone()
    table[:, 5] = activations[:, 0]
    true, shuffled = (
        clip.clip_dissect({"a": activations}, table, words, name="t", top_k=10, shuffle=seed)
        for seed in (None, 0)
    )
    assert true.label[0] == "5"
    assert shuffled.score[0] < true.score[0]


def test_the_matrix_is_the_same_in_chunks():
    images, words = torch.rand(5, 3), torch.rand(11, 3)
    torch.testing.assert_close(clip.images_by_words(images, words), images @ words.T)


# ---- records -----------------------------------------------------------------------------------


def test_a_key_changes_with_every_part():
    network = models.build("shapes_net", ("a", "b"), 64).network
    tensor = torch.arange(6.0)
    base = clip.content("a", 1, tensor, ["x", "y"], network)
    assert clip.content("a", 1, tensor.clone(), ["x", "y"], network) == base
    lying_otherwise = torch.stack([tensor, tensor], dim=1)[:, 0]
    assert clip.content("a", 1, lying_otherwise, ["x", "y"], network) == base
    other = models.build("shapes_net", ("a", "b"), 64, seed=1).network
    changed = [
        ("a", 2, tensor, ["x", "y"], network), ("a", 1, tensor + 1, ["x", "y"], network),
        ("a", 1, tensor.view(2, 3), ["x", "y"], network), ("a", 1, tensor, ["xy"], network),
        ("a", 1, tensor, ["y", "x"], network), ("a", 1, tensor, ["x", "y"], other),
        ("a", 1, tensor.double(), ["x", "y"], network), ("a", 1, tensor, ["x", "y"]),
        ("a", "1", tensor, ["x", "y"], network),
    ]  # fmt: skip
    keys = [clip.content(*parts) for parts in changed]
    assert len({base, *keys}) == len(changed) + 1


def test_a_key_is_the_same_in_every_process():
    code = (
        "import torch; from helpers.dissect import clip; from helpers.nets import models\n"
        "network = models.build('shapes_net', ('a', 'b'), 64).network\n"
        "print(clip.content('a', 1, torch.arange(6.0), ['x', 'y'], network))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    network = models.build("shapes_net", ("a", "b"), 64).network
    assert there.stdout.strip() == clip.content("a", 1, torch.arange(6.0), ["x", "y"], network)


def records():
    return sorted((files.data_folder() / "cache" / "dissection").rglob("output.pkl"))


def test_a_record_is_made_once_and_a_damaged_one_again():
    calls = []

    def compute():
        calls.append(1)
        return torch.arange(3.0)

    for _ in range(2):
        assert torch.equal(clip.recorded("units", "k", compute), torch.arange(3.0))
    assert len(calls) == 1
    (path,) = records()
    whole = path.read_bytes()
    for damaged in (b"half a file", whole[: len(whole) // 2], b""):
        path.write_bytes(damaged)
        calls.clear()
        for _ in range(2):
            assert torch.equal(clip.recorded("units", "k", compute), torch.arange(3.0))
        assert len(calls) == 1
    clip.recorded("words", "k", compute)
    clip.recorded("units", "other", compute)
    assert len(calls) == 3
    assert len(records()) == 3


def compute_beside_others(folder, key, barrier):
    """In a process of its own: begin together with the others, and leave a trace of computing."""
    os.environ["WORKBOOK_DATA"] = str(folder)

    def compute():
        (folder / f"{key}-{os.getpid()}").touch()
        return torch.full((9000,), float(key))

    barrier.wait(timeout=60)
    for _ in range(5):
        assert clip.recorded("units", key, compute).eq(float(key)).all()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked")
def test_processes_that_record_at_once_do_not_disturb_each_other(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    workers = [context.Process(target=compute_beside_others, args=(tmp_path, key, barrier))
               for key in ("1", "1", "2", "2")]  # fmt: skip
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    found = [path.name for path in tmp_path.rglob("output.pkl*")]
    assert found == ["output.pkl"] * 2, "two records, and no half-written file"
    computed = sorted(path.name[0] for path in tmp_path.glob("?-*"))
    assert set(computed) == {"1", "2"}
    assert len(computed) <= 4, "no process computes a record twice"


def test_a_fault_leaves_no_record():
    def compute():
        raise WorkbookError("no such layer")

    with pytest.raises(WorkbookError, match="no such layer"):
        clip.recorded("units", "k", compute)
    assert not records()


# ---- the whole path, with a tiny CLIP and random networks --------------------------------------

WORDS = ("dog", "red", "kitchen", "striped", "wheel", "sky", "cat", "blue")


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A randomly initialised CLIP of open_clip, in a folder as a reader would have one."""
    import open_clip
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"width": 32, "heads": 2, "layers": 1, "context_length": 77, "vocab_size": 49408}
    network = CLIP(16, CLIPVisionCfg(**vision), CLIPTextCfg(**text))
    folder = tmp_path_factory.mktemp("clip")
    config = {
        "model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {
            "mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD,
        },
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(network.state_dict(), folder / "open_clip_pytorch_model.bin")
    return f"local-dir:{folder}", network.eval()


@pytest.fixture(scope="module")
def seen():
    return data.load("shapes", "test", 12).images


def networks():
    """Two random networks of different width."""
    return {
        "narrow": models.build("shapes_net", tuple("abc"), 64),
        "wide": models.build("resnet18", tuple("abc"), 64),
    }


def dissect_both(encoder, images):
    table = clip.images_by_words(encoder.images(images), encoder.words(WORDS))
    return {
        name: clip.clip_dissect(
            clip.unit_activations(model, ["layer1", "layer3"], images), table, WORDS,
            name=name, top_k=5,
        )
        for name, model in networks().items()
    }  # fmt: skip


def test_embeddings_are_those_of_open_clip(tiny_clip, seen):
    name, network = tiny_clip
    encoder = clip.Encoder(name)
    import open_clip

    tokens = open_clip.get_tokenizer(name)(list(WORDS))
    with torch.no_grad():
        text = network.encode_text(tokens, normalize=True)
        small = torch.nn.functional.interpolate(seen, (32, 32), mode="bicubic", antialias=True)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in
                     (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))  # fmt: skip
        image = network.encode_image((small.clip(0, 1) - mean) / std, normalize=True)
    torch.testing.assert_close(encoder.words(WORDS), text, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder.images(seen, batch_size=5), image, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(encoder.words(WORDS, template="a photo of {}"), text, atol=1e-3)


def test_two_networks_are_dissected_end_to_end_and_again_from_records(tiny_clip, seen, monkeypatch):
    first = dissect_both(clip.Encoder(tiny_clip[0]), seen)
    assert [len(first[name]) for name in ("narrow", "wide")] == [24 + 96, 64 + 256]
    assert first["wide"].label.dropna().isin(WORDS).all()
    difference = units.compare(*first.values())
    assert sum(map(len, difference)) <= len(WORDS)

    def gone(self):
        raise AssertionError("CLIP must not be loaded again")

    monkeypatch.setattr(clip.Encoder, "_loaded", property(gone))
    monkeypatch.setattr(models.Classifier, "logits", gone)
    again = dissect_both(clip.Encoder(tiny_clip[0]), seen)
    for name, labels in first.items():
        pd.testing.assert_frame_equal(again[name], labels, check_exact=True)
    changed = seen.clone()
    changed[0, 0, 0, 0] += 0.5
    with pytest.raises(AssertionError, match="not be loaded"):
        dissect_both(clip.Encoder(tiny_clip[0]), changed)


def test_activations_are_means_over_the_map_and_of_all_layers_in_one_pass(seen, monkeypatch):
    model = networks()["narrow"]
    shown = []
    forward = model.network.forward
    monkeypatch.setattr(model.network, "forward", lambda x: shown.append(len(x)) or forward(x))
    found = clip.unit_activations(model, ["layer1", "layer3"], seen, batch_size=5)
    assert sum(shown) == len(seen)
    for layer in ("layer1", "layer3"):
        maps = recording.activations(model, layer, seen)
        torch.testing.assert_close(found[layer], maps.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)
    shown.clear()
    again = clip.unit_activations(model, ["layer3"], seen)
    assert torch.equal(again["layer3"], found["layer3"])
    assert not shown, "what is recorded is not computed again"
    with torch.no_grad():
        next(model.network.parameters())[0] += 1
    clip.unit_activations(model, ["layer3"], seen)
    assert sum(shown) == len(seen), "another network has other activations"


def test_a_layer_that_is_called_twice_or_unknown_is_an_error(seen, one_line):
    model = networks()["wide"]
    with pytest.raises(WorkbookError) as error:
        clip.unit_activations(model, ["layer1.0.relu"], seen)
    one_line(error, "layer1.0.relu", "called several times", "layer1.0")
    with pytest.raises(WorkbookError) as error:
        clip.unit_activations(model, ["layer9"], seen)
    one_line(error, "'layer9'", "layer1")
    assert not records()


def test_an_unknown_or_broken_encoder_is_named(tmp_path, one_line):
    with pytest.raises(WorkbookError) as error:
        clip.Encoder("clip_vit_b16").words(WORDS)
    one_line(error, "'clip_vit_b16'", "clip_vit_b_16")
    with pytest.raises(WorkbookError) as error:
        clip.Encoder(f"local-dir:{tmp_path}").words(WORDS)
    one_line(error, "can't be loaded as CLIP", "open_clip_config.json")
    with pytest.raises(WorkbookError) as error:
        clip.Encoder("any").words(())
    one_line(error, "concept set is empty")


def test_a_probe_set_of_one_class_is_cropped_from_its_images(one_line):
    images = data.load("shapes", "test", 30)
    crops = clip.crops_of_class(images, "ring", 7)
    assert crops.shape == (7, 3, 64, 64)
    assert 0 <= crops.min() < crops.max() <= 1
    assert torch.equal(crops, clip.crops_of_class(images, "ring", 7))
    assert len({clip.content(crop) for crop in crops}) == 7
    with pytest.raises(WorkbookError) as error:
        clip.crops_of_class(images, "rings", 7)
    one_line(error, "'rings'", "ring")
    with pytest.raises(WorkbookError) as error:
        clip.crops_of_class(images[:5], "ring", 7)
    one_line(error, "no image of ring")


# ---- the notebook's own code for profile full --------------------------------------------------


class FiveStages(torch.nn.Module):
    """A random network with the stages of a ResNet, small enough for a test."""

    def __init__(self, n_classes, _small_stem):
        super().__init__()
        widths = (3, 4, 5, 6, 7, 8)
        for name, a, b in zip(("relu", "layer1", "layer2", "layer3", "layer4"), widths, widths[1:],
                              strict=False):  # fmt: skip
            layer = torch.nn.Conv2d(a, b, 3, stride=2, padding=1)
            setattr(self, name, torch.nn.Sequential(layer, torch.nn.ReLU()))
        self.fc = torch.nn.Linear(widths[-1], n_classes)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.relu(x)))))
        return self.fc(x.mean(dim=(2, 3)))


@pytest.fixture
def full_notebook(tiny_clip, tmp_root, tmp_path, monkeypatch):
    """Run notebook 8 as far as its full profile needs, with stand-ins for what it downloads."""
    import matplotlib.pyplot as plt
    import nbformat

    from helpers.nets import training
    from helpers.run import figures, profiles

    plt.switch_backend("Agg")
    made = []
    monkeypatch.setattr(figures, "save", lambda figure, name: made.append(name))
    small = replace(models.ARCHITECTURES["resnet18"], build=FiveStages)
    monkeypatch.setitem(models.ARCHITECTURES, "resnet18", small)
    monkeypatch.setitem(models.ARCHITECTURES, "resnet50", small)
    monkeypatch.setattr(models, "pretrained", lambda name, data="imagenet": models.build(
        name, tuple("abc"), 64, seed=len(name + data)))  # fmt: skip
    monkeypatch.setattr(training, "trained_classifier", lambda profile: models.build(
        "shapes_net", data.shapes.CLASSES, 64))  # fmt: skip
    test = data.load("shapes", "test", 240)
    monkeypatch.setattr(training, "load_split", lambda profile, split: test)
    monkeypatch.setattr(data, "load", lambda name, *_, **__: test[:40])  # a folder's few images
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    own = f"file:{tmp_path / 'words.txt'}"
    monkeypatch.setitem(concepts.SETS, "3k", None)
    load = profiles.load

    def smaller(name="auto", **overrides):
        profile = load(name, **overrides)
        scale = profile.dissection
        scale.probe, scale.top_k = 120, 12
        if name == "full":
            scale.painted, scale.clip, scale.concept_sets = 20, tiny_clip[0], [own, "imagenet"]
            scale.one_class, scale.one_class_crops = "ring", 30
        return profile

    monkeypatch.setattr(profiles, "load", smaller)
    path = Path(__file__).parent.parent / "notebooks" / "08_network_dissection.ipynb"
    space = {"PROFILE": "full", "DATASET": "auto", "MODEL": "auto", "START": "auto"}
    for cell in nbformat.read(path, 4).cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and not {"setup", "parameters"} & set(tags):
            with redirect_stdout(io.StringIO()):
                exec(cell.source, space)
            plt.close("all")
    return space, own, made


@pytest.mark.slow
def test_the_notebook_dissects_two_networks_with_clip(full_notebook):
    space, own, made = full_notebook
    settings = [own, *(f"{own}, {s}" for s in ("wpmi", "cosine_cubed", "rank_reorder")),
                "shuffled", "imagenet"]  # fmt: skip
    assert {s for _, s in space["tables"]} == set(settings)
    assert {n for n, _ in space["tables"]} == {"ImageNet", "Places365"}
    assert all(len(labels) == 6 + 7 + 8 for labels in space["tables"].values())
    assert space["source"] == "computed here with CLIP"
    assert set(space["under_probes"]) == {
        (network, probe)
        for network in ("resnet50", "ImageNet", "Places365")
        for probe in ("one class", "broad")
    }
    assert {"08_top_imagenet", "08_top_places365", "08_settings", "08_cutoff"} <= set(made)
