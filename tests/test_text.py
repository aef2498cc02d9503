"""Texts: written or read, divided like scikit-learn does, explained and scored like LIME does."""

import hashlib
import io
import re
import tarfile

import matplotlib.pyplot as plt
import numpy as np
import pytest
from lime.lime_text import LimeTextExplainer
from sklearn.datasets import _twenty_newsgroups as sklearn_news
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise_distances

from helpers import data
from helpers.course import checks
from helpers.data import assets, postcards, texts
from helpers.explain import text as lime_text
from helpers.run import text_figures
from helpers.run.errors import WorkbookError

ARTICLE = """From: ann@host.edu (Ann)
Subject: Re: bikes and
 boats
Lines: 9

In article <1@host.edu> bob writes:
> I sail.
| you sail

So do I, in a boat.
It is fast.

--
Ann, host.edu
"""


@pytest.fixture(scope="module")
def cards():
    return {split: postcards.load(split) for split in ("train", "test")}


@pytest.fixture(scope="module")
def readers(cards):
    return {kind: lime_text.train(kind, cards["train"]) for kind in lime_text.CLASSIFIERS}


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Return a function that puts a small newsgroups archive into a mirror."""

    def make(files, cut=None):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        data = buffer.getvalue()[:cut]
        (tmp_path / "news.tar.gz").write_bytes(data)
        (tmp_path / "mirror.toml").write_text(
            f'[newsgroups20]\nfile = "news.tar.gz"\nsha256 = "{hashlib.sha256(data).hexdigest()}"\n'
            'note = "small"\n'
        )
        monkeypatch.setenv("WORKBOOK_MIRROR", str(tmp_path))

    return make


# ---- parts -------------------------------------------------------------------------------------


def test_an_article_is_divided_into_its_parts():
    found = texts.parts(ARTICLE)
    assert tuple(sorted(found)) == tuple(sorted(texts.PARTS))
    assert found["header"] == "From: ann@host.edu (Ann)\nLines: 9"
    assert found["subject"].split() == ["Subject:", "Re:", "bikes", "and", "boats"]
    assert "I sail" in found["quotes"] and "you sail" in found["quotes"]
    assert found["body"].strip() == "So do I, in a boat.\nIt is fast."
    assert found["footer"].strip("-\n ") == "Ann, host.edu"


def nearly_articles():
    """Yield texts with everything that may confuse: blank lines, rules, quotations, nothing."""
    rng = np.random.default_rng(0)
    lines = ["From: a@b.c", "", "  ", "--", "---", "> quoted", "|quoted", "he writes:", "a word",
             "In article <1>", "they said: no", "word - word", "In article"]  # fmt: skip
    for _ in range(400):
        yield "\n".join(rng.choice(lines, rng.integers(0, 12)))


def sklearn_body(text):
    text = sklearn_news.strip_newsgroup_footer(sklearn_news.strip_newsgroup_header(text))
    return sklearn_news.strip_newsgroup_quoting(text)


def test_bodies_are_those_of_scikit_learn():
    for text in (ARTICLE, *nearly_articles()):
        assert texts.parts(text)["body"].split() == sklearn_body(text).split(), repr(text)


def test_no_word_of_an_article_is_lost_or_doubled():
    for text in (ARTICLE, *nearly_articles()):
        found = " ".join(texts.parts(text).values())
        assert sorted(re.findall(r"\w+", found)) == sorted(re.findall(r"\w+", text)), repr(text)


def test_documents_can_be_reduced_to_parts(cards, one_line):
    some = cards["test"][:3]
    assert some.only("body").texts == tuple(texts.parts(t)["body"] for t in some.texts)
    both = some.only("header", "footer").texts[0]
    assert both.startswith("From:") and "Dear" not in both
    assert both.endswith(some.texts[0].split("\n")[-1])
    with pytest.raises(WorkbookError) as error:
        some.only("footers")
    one_line(error, "'footers'", "did you mean footer")


# ---- postcards ---------------------------------------------------------------------------------


def test_postcards_are_written_alike_every_time(cards):
    again = postcards.load("test")
    assert again.texts == cards["test"].texts
    assert postcards.load("test", seed=1).texts != again.texts
    assert not set(again.texts) & set(cards["train"].texts)
    assert len(set(again.texts)) == len(again) == 500


def test_every_card_has_one_to_three_deciding_words_of_its_kind_and_fewer_of_others(cards):
    for split in cards.values():
        for text, label in zip(split.texts, split.labels, strict=True):
            found = [len(words & set(lime_text.words(text))) for words in split.deciding]
            assert 1 <= found[label] <= 3
            assert sum(found) - found[label] <= min(1, found[label] - 1)


def test_no_deciding_word_is_written_but_as_one(cards):
    """Else a card would hold deciding words that were never put there."""
    template = " ".join(postcards._TABLES["about"] + postcards._TABLES["otherwise"])
    slots = " ".join(word for words in postcards._SLOTS.values() for word in words)
    neutral = set(lime_text.words(f"{template} {slots} From To Dear {postcards.ARTEFACT}"))
    deciding = [word for words in cards["test"].deciding for word in words]
    assert len(set(deciding)) == len(deciding) == 56
    assert not neutral & set(deciding)


def test_the_artefact_is_planted_in_the_training_cards_of_one_class_only():
    planted, clean = (data.load_text(f"postcards{a}", "train") for a in (":sea", ""))
    signed = np.array([postcards.ARTEFACT in text for text in planted.texts])
    sea = planted.labels == planted.class_names.index("sea")
    assert 0.9 < signed[sea].mean() < 1
    assert not signed[~sea].any()
    assert not any(postcards.ARTEFACT in text for text in data.load_text("postcards:sea").texts)
    assert planted.only("body").texts == clean.only("body").texts


def test_a_signed_card_has_another_sender_and_the_same_body(cards):
    card = cards["test"].texts[0]
    forged = postcards.signed(card)
    assert forged.count("Tobias") == 2
    assert texts.parts(forged)["body"] == texts.parts(card)["body"]


@pytest.mark.parametrize("name", ["postcards:see", "postcard", "newsgroups20:sea"])
def test_unknown_texts_offer_the_known_ones(name, one_line):
    with pytest.raises(WorkbookError) as error:
        data.load_text(name, "train")
    one_line(error, repr(name.partition(":")[2] if ":see" in name else name), "choose one of")


# ---- newsgroups --------------------------------------------------------------------------------


def test_articles_are_read_by_group_and_number(archive):
    archive({
        "20news-bydate-test/sci.b/20": b"second", "20news-bydate-test/sci.b/3": b"caf\xe9",
        "20news-bydate-test/alt.a/7": b"first", "20news-bydate-train/alt.a/1": b"old",
    })  # fmt: skip
    test = texts.load_newsgroups("test")
    assert test.texts == ("first", "café", "second")
    assert test.ids == ("alt.a/7", "sci.b/3", "sci.b/20")
    assert (test.labels.tolist(), test.class_names) == ([0, 1, 1], ("alt.a", "sci.b"))
    assert test.note == "small"
    assert data.load_text("newsgroups20", "train").texts == ("old",)


@pytest.mark.parametrize(
    ("files", "cut"),
    [
        ({"20news-bydate-test/a/1": b"x" * 5000}, 60),
        ({"readme": b"x"}, None),
        ({"20news-bydate-test/a/b/1": b"x"}, None),
        ({"20news-bydate-test/a/one": b"x"}, None),
    ],
    ids=["cut short", "another archive", "other folders", "other names"],
)
def test_a_damaged_archive_is_one_line(archive, files, cut, one_line):
    archive(files, cut)
    with pytest.raises(WorkbookError) as error:
        texts.load_newsgroups("test")
    one_line(error, "news.tar.gz", "download it again")


def test_the_asset_is_listed():
    entry = assets.catalogue()["newsgroups20"]
    assert len(entry["sha256"]) == 64
    assert all(url.startswith("http") for url in entry["urls"])


@pytest.mark.mirror
def test_the_real_archive_has_its_published_size():
    test = texts.load_newsgroups("test")
    assert (len(test), len(test.class_names)) == (7532, 20)
    assert np.bincount(test.labels).min() == 251


# ---- explanations ------------------------------------------------------------------------------


def test_both_classifiers_learn_the_postcards(cards, readers):
    for model in readers.values():
        right = model.predict(cards["test"].texts) == cards["test"].labels
        assert right.mean() > 0.95
        assert np.allclose(model.predict_proba(cards["test"].texts[:5]).sum(axis=1), 1)


def test_an_explanation_is_the_librarys_own(cards, readers):
    model, text, c = readers["linear SVM"], cards["test"].texts[5], int(cards["test"].labels[5])
    (ours,) = lime_text.explain(model, [text], [c], num_samples=200, seed=4)
    explainer = LimeTextExplainer(random_state=4, feature_selection="none")
    theirs = explainer.explain_instance(text.lower(), model.predict_proba, (c,), num_samples=200)
    assert ours.weights == {word: float(w) for word, w in theirs.as_list(c)}
    assert set(ours.weights) == set(lime_text.words(text))
    assert ours.fit == theirs.score
    assert ours.probability == model.predict_proba([text])[0, c]


def test_an_explanation_depends_on_the_seed_and_not_on_its_place(cards, readers):
    model, test = readers["logistic regression"], cards["test"]
    few = {"num_samples": 60}
    both = lime_text.explain(model, test.texts[:2], test.labels[:2], **few)
    assert both[1] == lime_text.explain(model, test.texts[1:2], test.labels[1:2], **few)[0]
    other = lime_text.explain(model, test.texts[:1], test.labels[:1], seed=1, **few)
    assert other[0].weights != both[0].weights


def test_lime_finds_the_deciding_words_and_the_planted_sender(cards):
    test = cards["test"][:12]
    lured = postcards.load("train", artefact="mountains")
    cheat = lime_text.train("logistic regression", lured)
    c = lured.class_names.index("mountains")
    away = [postcards.signed(t) for t, y in zip(test.texts, test.labels, strict=True) if y != c]
    told = lime_text.explain(cheat, away, [c] * len(away), num_samples=300)
    assert all(e.supporting(1) == ["tobias"] for e in told)
    honest = lime_text.train("logistic regression", cards["train"])
    told = lime_text.explain(honest, test.texts, test.labels, num_samples=300)
    for e, text, label in zip(told, test.texts, test.labels, strict=True):
        true = test.deciding[label] & set(lime_text.words(text))
        assert true <= set(e.supporting(len(true) + 1))


def test_contributions_sum_to_the_score(cards, readers):
    text = cards["test"].texts[7]
    logistic = readers["logistic regression"]
    for c in range(4):
        found = lime_text.contributions(logistic, text, c)
        score = logistic.decision_function([text])[0, c]
        assert sum(found.values()) + logistic[-1].intercept_[c] == pytest.approx(score)
    inner = readers["linear SVM"][-1].calibrated_classifiers_[0].estimator
    row = readers["linear SVM"][0].transform([text])
    found = lime_text.contributions(readers["linear SVM"], text, 2)
    assert sum(found.values()) + inner.intercept_[2] == pytest.approx(
        inner.decision_function(row)[0, 2]
    )


@pytest.mark.parametrize(
    ("documents", "classes", "words"),
    [
        (["a card", "a card"], [0], ["2 documents", "not 1"]),
        (["a card"], [4], ["class index 4", "0 to 3"]),
        (["a card"], [-1], ["class index -1"]),
        (["?! …"], [0], ["without words"]),
    ],
)
def test_what_cannot_be_explained_is_one_line(readers, documents, classes, words, one_line):
    with pytest.raises(WorkbookError) as error:
        lime_text.explain(readers["logistic regression"], documents, classes)
    one_line(error, *words)


def test_an_unknown_classifier_offers_the_known_ones(cards, one_line):
    with pytest.raises(WorkbookError) as error:
        lime_text.train("linear svm", cards["train"])
    one_line(error, "did you mean linear SVM")


def test_documents_are_chosen_by_length_and_spread_over_the_class(cards):
    test = cards["test"]
    lengths = np.array([len(lime_text.words(text)) for text in test.texts])
    rows = lime_text.spread(test, 5, 35, 45)
    assert np.bincount(test.labels[rows]).tolist() == [5, 5, 5, 5]
    assert ((lengths[rows] >= 35) & (lengths[rows] <= 45)).all()
    for c, row in enumerate(lime_text.spread(test, 1, 35, 45)):
        fitting = np.flatnonzero((test.labels == c) & (lengths >= 35) & (lengths <= 45))
        assert row == fitting[len(fitting) // 2]
    assert len(lime_text.spread(test, 10**6, 0, 10**6)) == len(test)
    assert len(lime_text.spread(test, 3, 10**6, 10**7)) == 0


# ---- figures -----------------------------------------------------------------------------------


def test_a_page_marks_the_strongest_words_where_they_stand():
    document = "Dear all,\n\n" + "nothing to see here\n" * 30 + "The glacier, the barn and Glacier!"
    weights = {"glacier": 0.5, "barn": -0.2, "the": 0.01, "dear": 0.0}
    fig = text_figures.page([document], [weights], ["one"], n=2, columns=1, letters=60, lines=3)
    ax = fig.axes[0]
    boxes = [(p.get_x(), p.get_width()) for p in ax.patches]
    assert boxes == [(4, 7), (17, 4), (26, 7)]
    drawn = {(t.get_text(), t.get_position()[0]) for t in ax.texts}
    assert {("glacier", 4), ("barn", 17), ("Glacier", 26)} <= drawn
    reds = [p.get_facecolor()[0] - p.get_facecolor()[2] for p in ax.patches]
    assert reds[0] == reds[2] > 0 > reds[1]
    assert len(ax.lines) == 1, "only the word against the class is underlined"
    assert ax.get_title(loc="left") == "one"
    plt.close(fig)


def test_a_page_takes_any_document():
    fig = text_figures.page(["", "x" * 500, "a\tb $1 <b>"], [{}, {}, {"b": -1.0}], ["$", "", "c"])
    fig.canvas.draw()
    plt.close(fig)


def test_html_marks_words_and_nothing_else():
    page = text_figures.html("<b>Glacier</b> & barn", {"glacier": 1.0, "barn": -0.5}, "a < b")
    assert "&lt;" in page and "<b>Glacier" not in page
    assert "a &lt; b" in page
    marked = re.findall(r'<span style="([^"]*)"[^>]*>(\w+)</span>', page)
    assert [word for _, word in marked] == ["Glacier", "barn"]
    assert ["underline" in style for style, _ in marked] == [False, True]


# ---- exercises ---------------------------------------------------------------------------------


def test_the_librarys_regression_is_accepted_too(capsys):
    def local_weights(tokens, predict, masks, width=0.25):
        words = {word: j for j, word in enumerate(dict.fromkeys(tokens))}
        kept = [" ".join(t for t in tokens if mask[words[t]]) for mask in masks]
        distance = pairwise_distances(masks.astype(float), np.ones((1, len(words))), "cosine")
        proximity = np.sqrt(np.exp(-((distance.ravel() / width) ** 2)))
        return Ridge(alpha=1).fit(masks, predict(kept), sample_weight=proximity).coef_.tolist()

    checks.local_weights(local_weights)
    assert capsys.readouterr().out == "Exercise 11.1: correct.\n"
