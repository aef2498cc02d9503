"""Linear text classifiers, and LIME on them: which words speak for a class, which against it.

The explanations are those of the ``lime`` library (Ribeiro, Singh & Guestrin 2016).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from lime.lime_text import LimeTextExplainer
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC
from tqdm.auto import tqdm

from helpers.data.texts import TextSet
from helpers.run.errors import WorkbookError, unknown

CLASSIFIERS = {
    "logistic regression": lambda seed: LogisticRegression(C=10, max_iter=500),
    # A support vector machine has margins, not probabilities: Platt's sigmoids make them.
    "linear SVM": lambda seed: CalibratedClassifierCV(
        LinearSVC(random_state=seed), cv=3, ensemble=False
    ),
}


@dataclass(frozen=True)
class TextExplanation:
    """What LIME says about one class of one document."""

    # What the presence of a word, in lower case, adds to the probability; the strongest first.
    weights: dict[str, float]
    fit: float  # weighted R² of the local linear model
    probability: float  # of the class for the whole document

    def supporting(self, n: int | None = None) -> list[str]:
        """Return the n words that speak most for the class (fewer if fewer do), or all."""
        return [word for word, weight in self.weights.items() if weight > 0][:n]


def train(kind: str, texts: TextSet, seed: int = 0) -> Pipeline:
    """Fit a classifier on tf-idf: documents in, probabilities [N, K] out (``predict_proba``).

    A word counts with ``1 + log(its frequency)``, times the log of its rarity; a document has
    length 1 (Salton & Buckley 1988). English function words and words of fewer than three
    training documents are left out. ``kind`` is a key of :data:`CLASSIFIERS`, ``seed`` that of the
    support vector machine's solver.

    Raises:
        WorkbookError: no such classifier.
    """
    if kind not in CLASSIFIERS:
        raise unknown("text classifier", kind, CLASSIFIERS)
    tfidf = TfidfVectorizer(sublinear_tf=True, min_df=3, stop_words="english")
    return make_pipeline(tfidf, CLASSIFIERS[kind](seed)).fit(texts.texts, texts.labels)


def explain(
    classifier: Pipeline, documents: Sequence[str], classes: Sequence[int], *,
    num_samples: int = 1000, seed: int = 0, progress_bar: bool = False,
) -> list[TextExplanation]:  # fmt: skip
    """Explain the given class of each document with LIME.

    Documents are put into lower case first, as the classifier does it; else LIME would hide
    "God" and leave "god" standing. All words get a weight, so none is lost to a selection. Each
    document has a sampler of its own: its explanation depends on the seed, not on its place.

    Args:
        classifier: has ``predict_proba``: texts in, probabilities [N, K] out.
        documents, classes: N texts, and N class indices.
        num_samples: texts with hidden words per document, the whole document among them.

    Raises:
        WorkbookError: these differ in number, a class is not there, a document has no words.
    """
    if len(documents) != len(classes):
        raise WorkbookError(
            f"{len(documents)} documents need as many classes, not {len(classes)}: give one each"
        )
    found, last = [], len(classifier.classes_) - 1
    pairs = zip(documents, map(int, classes), strict=True)
    for document, c in tqdm(pairs, "LIME", len(documents), disable=not progress_bar):
        if not words(document):
            raise WorkbookError("a document without words cannot be explained: leave it out")
        if not 0 <= c <= last:
            raise WorkbookError(
                f"class index {c} is out of range: this classifier has classes 0 to {last}"
            )
        explainer = LimeTextExplainer(feature_selection="none", random_state=seed)
        told = explainer.explain_instance(
            document.lower(), classifier.predict_proba, labels=(c,), num_samples=num_samples
        )
        weights = {str(word): weight for word, weight in told.as_list(label=c)}
        found.append(TextExplanation(weights, float(told.score), float(told.predict_proba[c])))
    return found


def words(document: str) -> list[str]:
    """Return the different words of a document in lower case, as LIME cuts them."""
    return list(dict.fromkeys(re.findall(r"\w+", document.lower())))


def contributions(classifier: Pipeline, document: str, c: int) -> dict[str, float]:
    """Return what each word adds to the score of a class: its coefficient times its tf-idf.

    This is the truth about a linear classifier, up to the step from score to probability. Words
    that the classifier does not know are not in it.
    """
    tfidf, model = classifier[0], classifier[-1]
    if isinstance(model, CalibratedClassifierCV):
        model = model.calibrated_classifiers_[0].estimator
    row = tfidf.transform([document])
    added = np.atleast_2d(model.coef_)[c, row.indices] * row.data
    return dict(zip(tfidf.get_feature_names_out()[row.indices], added.tolist(), strict=True))


def spread(texts: TextSet, per_class: int, fewest: int, most: int) -> np.ndarray:
    """Choose documents by rule: of each class some, evenly spaced among those of fitting length.

    Fitting is from ``fewest`` to ``most`` different words. A class with fewer such documents than
    ``per_class`` gives them all; of one per class it is the middle one.

    Returns:
        int64 [n], indices, class by class.
    """
    lengths = np.array([len(words(document)) for document in texts.texts])
    fitting = (fewest <= lengths) & (lengths <= most)
    chosen = []
    for c in range(len(texts.class_names)):
        rows = np.flatnonzero(fitting & (texts.labels == c))
        places = (np.arange(per_class) + 0.5) / per_class * len(rows)
        chosen.append(rows[np.unique(places.astype(int))] if len(rows) else rows)
    return np.concatenate(chosen)
