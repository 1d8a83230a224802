"""Writes a caption for every training image of digits or Fashion-MNIST, in the words of the typeset world.

What a caption says is measured: "bold" where an image has more ink than the median of its class, "slanted" where its
ink leans by more than 0.2 px a row. So the embedded generator can read it, and it is true of the image.

Run: python experiments/assets/caption_images.py --source=digits --out=experiments/assets/digits_captions.json
     python experiments/assets/caption_images.py --source=fashion_mnist --out=fashion_captions.json
"""

import argparse
import json
from pathlib import Path

import numpy as np

from jaxmoust.data.source import Source
from jaxmoust.data.sources.registry import open_source

# The embedded text encoder reads 24 tokens: the name of a garment leaves room for one word.
FORMS = {"digits": "the number {name} in {weight} {slant} type, light on dark", "fashion_mnist": "a {weight} {name}"}
SLANTED = 0.2  # px to the side, a row


def captions(source: Source, form: str) -> list[str]:
    """The caption of each image, in their order."""
    ink = source.images(np.arange(len(source)))[..., 0] / 255.0
    amount = ink.sum(axis=(1, 2))
    typical = np.array([np.median(amount[source.labels == c]) for c in range(len(source.class_names))])
    bold, slanted = amount > typical[source.labels], np.abs(lean(ink)) > SLANTED
    return [
        form.format(
            name=source.class_names[label],
            weight="bold" if is_bold else "regular",
            slant="slanted" if is_slanted else "upright",
        )
        for label, is_bold, is_slanted in zip(source.labels, bold, slanted, strict=True)
    ]


def lean(ink: np.ndarray) -> np.ndarray:
    """How far ink [N, H, W] moves to the side with each row: the slope of column on row, [N]."""
    mass = np.maximum(ink.sum(axis=(1, 2)), 1e-9)
    row, column = np.mgrid[: ink.shape[1], : ink.shape[2]]
    means = [(ink * place).sum(axis=(1, 2)) / mass for place in (row, column, row * column, row * row)]
    return (means[2] - means[0] * means[1]) / np.maximum(means[3] - means[0] ** 2, 1e-9)


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", choices=sorted(FORMS), default="digits")
    parser.add_argument("--path", default="", help="where the images lie, if not in their usual place")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    texts = captions(open_source(args.source, "train", args.path), FORMS[args.source])
    args.out.write_text(json.dumps(texts, indent=0) + "\n")
    print(f"{args.out}: {len(texts):,} captions, {len(set(texts)):,} distinct")


if __name__ == "__main__":
    main()
