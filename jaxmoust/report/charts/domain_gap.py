"""The study's picture of the domain gap: the same images in the planes of two classifiers' features.

One classifier was trained to tell real from synthetic, the other to name what real images show. Real images are discs
and synthetic ones hollow triangles, so that the two differ in grey as much as in colour. Hand-written SVG as in
charts.py; takes what the verb `domain` leaves, and computes the sentences from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from jaxmoust.report.charts import base as charts

SIZE, EDGE = 220, 8
MAX_POINTS = 150  # of a kind: more cover one another
TITLES = {"domain": "Asked: real or synthetic?", "classifier": "Asked: which class?"}
_TRAINED = {
    TITLES["domain"]: "a classifier that was trained to tell real from synthetic",
    TITLES["classifier"]: "one that was trained on real images to name their class",
}

# The shapes, around a point: as paths, so that all points of a kind are one element.
_MARKS = {"real": "m-2.6 0a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0-5.2 0", "made": "m0-3.6l3.4 6h-6.8z"}
_STYLES = {
    "real": 'style="fill:var(--neutral,#545c66);fill-opacity:.75;stroke:none"',
    "made": 'style="fill:none;stroke:var(--made,#7650b5);stroke-width:1.3"',
}


@dataclass(frozen=True, eq=False)
class Panel:
    """Images in the plane of one classifier's features.

    Args:
        points: [N, 2], finite. is_real: booleans [N], some of both.
        shares: of the features' variance that each axis carries, [2].
        overlap: 0, apart; about 1, mixed as by chance.
    Raises: ValueError: other shapes, points that are not finite, or images of one kind only.
    """

    title: str
    points: NDArray[np.floating]
    is_real: NDArray[np.bool_]
    shares: tuple[float, float]
    overlap: float

    def __post_init__(self):
        points, is_real = np.asarray(self.points, np.float64), np.asarray(self.is_real, bool)
        if points.shape != (len(is_real), 2) or not np.isfinite(points).all() or not is_real.any() or is_real.all():
            raise ValueError(
                f"domain panel: got points {points.shape} for {int(is_real.sum())} real images of {len(is_real)}; "
                "allowed finite [N, 2] with some of both kinds"
            )
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "is_real", is_real)

    @property
    def words(self) -> str:
        """How far the two kinds lie apart in this plane."""
        if self.overlap < 0.2:
            return f"apart (overlap {self.overlap:.2f})"
        return f"{'mixed' if self.overlap > 0.8 else 'partly apart'} (overlap {self.overlap:.2f})"


def read_panels(features: Mapping[str, NDArray], result: Mapping[str, Any]) -> list[Panel]:
    """Returns the panels of what `domain` left: one, or two where it was given a real-trained classifier.

    Args:
        features: the arrays of features.npz. result: the content of result.json.
    Raises: ValueError: the two do not belong together.
    """
    if missing := [name for name in ("is_real", *result["overlap"]) if name not in features]:
        raise ValueError(f"domain panels: got features without {missing}; give features.npz beside its result.json")
    return [
        Panel(TITLES[name], features[name], features["is_real"], tuple(map(float, features[f"{name}_shares"])), overlap)
        for name, overlap in result["overlap"].items()
    ]


def panel(shown: Panel) -> Markup:
    """Draws one panel: at most MAX_POINTS images of each kind, evenly taken; both axes on one scale."""
    low, high = shown.points.min(axis=0), shown.points.max(axis=0)
    scale = (SIZE - 2 * EDGE) / (float((high - low).max()) or 1.0)
    middle = (low + high) / 2
    parts = [f'<rect x=".5" y=".5" width="{SIZE - 1}" height="{SIZE - 1}" class="frame"/>']
    drawn = {}
    for kind, mask in (("made", ~shown.is_real), ("real", shown.is_real)):
        keys = np.flatnonzero(mask)
        drawn[kind] = keys[np.linspace(0, keys.size - 1, min(keys.size, MAX_POINTS)).astype(int)]
        at = SIZE / 2 + (shown.points[drawn[kind]] - middle) * (scale, -scale)
        path = "".join(f"M{x:.1f} {y:.1f}{_MARKS[kind]}" for x, y in at)
        parts.append(f'<path d="{path}" class="point {kind}" {_STYLES[kind]}/>')
    first, second = (f"{100 * share:.0f}" for share in shown.shares)
    alt = (
        f"{shown.title} {drawn['real'].size} real images (discs) and {drawn['made'].size} synthetic ones (triangles) "
        f"in the plane of the classifier's features, first two principal components, {first} and {second} % of the "
        f"variance: {shown.words}"
    )
    return charts.svg(SIZE, SIZE, parts, alt)


def key_mark(kind: str) -> Markup:
    """The shape of a kind, "real" or "made", for the key of the picture."""
    return Markup(f'<svg viewBox="-8 -8 16 16" aria-hidden="true"><path d="M0 0{_MARKS[kind]}" {_STYLES[kind]}/></svg>')


def gap_sentence(result: Mapping[str, Any]) -> str:
    """Returns how well real and synthetic images can be told apart, with its interval.

    Says that no gap was found where the interval of the AUC holds 0.5, and warns where the two kinds had other sizes
    before they were brought to one, for then the traces of resizing can be what tells them apart.
    """
    low, high = result["auc_interval"]
    which = "in the base set" if result["real"] == "base" else "outside the base set"
    least, most = result["accuracy_interval"]
    numbers = (
        f"{result['accuracy']:.1f} % right [{least:.1f}, {most:.1f}], AUC {result['auc']:.3f} [{low:.3f}, {high:.3f}], "
        f"on {result['n']:,} held-out images, half of them real ({which})"
    )
    if low > 0.5:
        text = f"A classifier tells synthetic images from real ones: {numbers}."
    elif high < 0.5:
        text = (
            f"A classifier takes held-out synthetic images for real ones more often than chance: {numbers}. So it goes "
            "where synthetic images are near copies of single real ones."
        )
    else:
        text = f"A classifier was not found to tell synthetic images from real ones better than chance: {numbers}."
    shapes = {kind: None if shape is None else tuple(shape) for kind, shape in result["own_shapes"].items()}
    if shapes["real"] != shapes["synthetic"]:
        sizes = {kind: "several sizes" if s is None else "x".join(map(str, s)) for kind, s in shapes.items()}
        text += (
            f" Real images were {sizes['real']} and synthetic ones {sizes['synthetic']} before both were brought to "
            f"{'x'.join(map(str, result['image_shape']))}: traces of that can be part of what it sees."
        )
    return text


def picture_sentence(panels: list[Panel]) -> str:
    """Returns what the picture shows: how far the kinds lie apart in the features of each classifier."""
    said = [f"of {_TRAINED[shown.title]} they lie {shown.words}" for shown in panels]
    return f"In the features {', in those '.join(said)}."
