"""Misclassified test images: the confusion matrix, and the most confident mistakes with their pictures.

Of every run's predicted.npy and confidence.npy; runs of before these were kept have none, and nothing is shown of them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from jaxmoust.report.charts import base, confusion, pictures
from jaxmoust.report.page import Cell, Figure, Section, Table

FILES = ("predicted.npy", "confidence.npy")
MOST_CLASSES, MOST_PAIRS, MOST_PICTURES = 40, 12, 12

Predictions = tuple[NDArray, NDArray]  # of each test image: the predicted class [N], and its probability [N]


def read(folder: Path, labels: NDArray, num_classes: int) -> Predictions | None:
    """Reads a run's predictions; None of one that kept nothing. Raises: ValueError: they are of other images."""
    if not any((folder / name).exists() for name in FILES):
        return None
    predicted, confidence = (np.load(folder / name) for name in FILES)
    if predicted.shape != labels.shape or confidence.shape != labels.shape or not np.all(predicted < num_classes):
        raise ValueError(
            f"{folder}: got predictions {predicted.shape} of {num_classes} classes, expected {labels.shape}"
        )
    return predicted.astype(np.int64), confidence.astype(np.float64)


def sections(
    titles: Mapping[str, str],
    runs: Mapping[str, Mapping[int, Predictions]],
    labels: NDArray,
    class_names: Sequence[str],
    image: Callable[[int], tuple[NDArray[np.uint8], str]],
) -> list[Section]:
    """Returns the section of some arms, all seeds of each together; none where no run has kept predictions.

    Args:
        titles: of the arms to show, in their order. runs: arm -> seed -> its predictions.
        image: test image i as networks see it, and the name of its file, if it has one.
    """
    shown = [name for name in titles if runs.get(name)]
    if not shown or not len(labels):
        return []
    shares = {name: confusion_shares([of for of, _ in runs[name].values()], labels, class_names) for name in shown}
    figures = []
    for name in shown if len(class_names) <= MOST_CLASSES else ():
        worst = _pairs({name: shares[name]})[:3]
        words = "; ".join(f"{class_names[i]} as {class_names[j]} {shares[name][i, j]:.1%}" for i, j in worst)
        chart = confusion.confusion_matrix(shares[name], class_names)
        caption = f"Of the images of each class the part that is predicted so, over {_runs(len(runs[name]))}."
        drawn = base.picture(chart, f"Confusion matrix of {titles[name]}: {words or 'no mistake'}.")
        figures.append(Figure(titles[name], caption, drawn, name))
    pairs = _pairs(shares)[:MOST_PAIRS]
    rows: list[list[Cell]] = [
        [class_names[i], class_names[j], *((float(shares[name][i, j]), f"{shares[name][i, j]:.1%}") for name in shown)]
        for i, j in pairs
    ]
    tables = [Table("Most frequent confusions", ["true", "predicted", *(titles[name] for name in shown)], rows)]
    mistakes = [_mistakes(titles[name], [*runs[name].values()], labels, class_names, image) for name in shown]
    notes = [
        "Below a picture: its true class, the predicted one, in how many runs, and the mean confidence. A confident "
        "mistake of every run may be a wrong label: look at the file."
    ]
    figures += [one for one in mistakes if one]
    return [Section("Mistakes", (), figures, tables if rows else [], notes, columns=2, folded=True)]


def confusion_shares(predicted: Sequence[NDArray], labels: NDArray, class_names: Sequence[str]) -> NDArray[np.float64]:
    """Of the images of class i the part that is predicted as j, over all runs: [K, K]; NaN for one without images."""
    num_classes = len(class_names)
    counts = np.zeros((num_classes, num_classes))
    for of_run in predicted:
        np.add.at(counts, (labels, of_run), 1)
    sizes = counts.sum(1, keepdims=True)
    return np.divide(counts, sizes, out=np.full_like(counts, np.nan), where=sizes > 0)


def confident_mistakes(runs: Sequence[Predictions], labels: NDArray) -> list[tuple[int, int, int, float]]:
    """The images that are misclassified with the most confidence, a mistake of every run before one of fewer.

    Returns: of each (its index, the class predicted most often, in how many runs it is wrong, their mean confidence).
    """
    wrong = np.stack([predicted != labels for predicted, _ in runs])
    sure = np.where(wrong, np.stack([confidence for _, confidence in runs]), 0.0)
    order = np.argsort(-sure.mean(0), kind="stable")
    mistakes = []
    for i in order[: np.count_nonzero(wrong.any(0))].tolist():
        votes = np.bincount([predicted[i] for predicted, _ in runs if predicted[i] != labels[i]])
        mistakes.append((i, int(votes.argmax()), int(wrong[:, i].sum()), float(sure[wrong[:, i], i].mean())))
    return mistakes


def _mistakes(
    title: str,
    runs: Sequence[Predictions],
    labels: NDArray,
    class_names: Sequence[str],
    image: Callable[[int], tuple[NDArray[np.uint8], str]],
) -> Figure | None:
    """The pictures of an arm's most confident mistakes; None where it makes none."""
    markup = []
    for i, predicted, num_wrong, confidence in confident_mistakes(runs, labels)[:MOST_PICTURES]:
        pixels, file = image(i)
        sheet = pictures.image_sheet(pixels[None], columns=1)
        words = f"{class_names[labels[i]]}, predicted {class_names[predicted]}"
        how = f"{num_wrong} of {len(runs)}, {confidence:.0%}"
        markup.append(
            f'<figure title="{escape(file or f"test image {i}")}"><img{" class=crisp" if sheet["crisp"] else ""} '
            f'src="{sheet["uri"]}" width="{sheet["width"]}" height="{sheet["height"]}" alt="{escape(words)}">'
            f'<figcaption class="note">{escape(words)}<br><span class="num">{how}</span></figcaption></figure>'
        )
    caption = f"Test images that are misclassified with the most confidence, over {_runs(len(runs))}."
    body = Markup(f'<div class="pairs">{"".join(markup)}</div>')  # every word in it is escaped above
    return Figure(f"Most confident mistakes: {title}", caption, body) if markup else None


def _pairs(shares: Mapping[str, NDArray]) -> list[tuple[int, int]]:
    """Pairs of a true and a predicted class, the most frequent first, by the mean over the arms."""
    mean = np.nan_to_num(np.mean([*shares.values()], axis=0))
    np.fill_diagonal(mean, 0.0)
    order = np.argsort(-mean, axis=None, kind="stable")[: np.count_nonzero(mean)]
    return [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, mean.shape), strict=True)]


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"
