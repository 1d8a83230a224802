"""A world of typeset digits: what the embedded generator knows before it sees any handwriting.

Ten digits in the fonts that matplotlib ships, regular and bold, upright and slanted, light on dark and dark on light:
80 kinds of picture, each a class folder, so that what a caption says is true. Size, place, a small turn, both greys
and the blur vary from picture to picture. A picture is a function of (seed, split, kind, number) alone.
"""

import functools
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE_PX = 32
_ZOOM = 4  # drawn so many times larger, then averaged down

# (weight, slant) -> the files of matplotlib that look so. Old-style figures (cmmi10) and symbol fonts are left out.
FONTS = {
    ("regular", "upright"): (
        "DejaVuSans",
        "DejaVuSansMono",
        "DejaVuSerif",
        "STIXGeneral",
        "cmr10",
        "cmss10",
        "cmtt10",
    ),
    ("regular", "slanted"): (
        "DejaVuSans-Oblique",
        "DejaVuSansMono-Oblique",
        "DejaVuSerif-Italic",
        "STIXGeneralItalic",
        "cmti10",
    ),
    ("bold", "upright"): ("DejaVuSans-Bold", "DejaVuSansMono-Bold", "DejaVuSerif-Bold", "STIXGeneralBol", "cmb10"),
    ("bold", "slanted"): (
        "DejaVuSans-BoldOblique",
        "DejaVuSansMono-BoldOblique",
        "DejaVuSerif-BoldItalic",
        "STIXGeneralBolIta",
    ),
}
TONES = ("light on dark", "dark on light")


@dataclass(frozen=True)
class Kind:
    """What one class of pictures has in common."""

    digit: int
    weight: str
    slant: str
    tone: str

    @property
    def name(self) -> str:
        """The class folder, such as "3_bold_slanted_light-on-dark"."""
        return f"{self.digit}_{self.weight}_{self.slant}_{self.tone.replace(' ', '-')}"

    @property
    def captions(self) -> tuple[str, ...]:
        """Several ways to say it, from the digit alone to all that is true of the class."""
        word, number = WORDS[self.digit], str(self.digit)
        type_ = f"{self.weight} {self.slant} type"
        return (
            f"a photo of the digit {word}",
            f"a photo of the digit {number}",
            f"a photo of a {number}",
            f"the digit {word}",
            f"the number {number}",
            f"a photo of the digit {word}, {self.tone}",
            f"a photo of the digit {number}, {self.tone}",
            f"the digit {word} in {type_}",
            f"the number {number} in {type_}, {self.tone}",
            f"a {self.weight} {number}, {self.tone}",
        )


KINDS = tuple(
    Kind(digit, weight, slant, tone) for digit, (weight, slant), tone in itertools.product(range(10), FONTS, TONES)
)


def typeset(kind: Kind, rng: np.random.Generator) -> Image.Image:
    """Draws one picture of a kind, grey, 32 px.

    The digit is 15 to 30 px high, less where it would not fit wholly; it is turned by up to 8 degrees, sheared by up
    to 0.1, and blurred with a standard deviation of 0.3 to 2 px, most often little. Its two greys are at least 0.45
    of the way from black to white apart.
    """
    side = SIDE_PX * _ZOOM
    fonts = FONTS[kind.weight, kind.slant]
    mask = _glyph(fonts[rng.integers(len(fonts))], kind.digit)
    scale, stretch = rng.uniform(15, 30) * _ZOOM / mask.height, rng.uniform(0.85, 1.2)
    angle, shear = math.radians(rng.uniform(-8, 8)), rng.uniform(-0.1, 0.1)
    # Output pixel (x, y) about the glyph's centre -> input pixel: the inverse of turn * shear * scale.
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    forward = turn @ np.array([[1.0, shear], [0.0, 1.0]]) @ np.diag([scale * stretch, scale])
    half = np.abs(forward) @ (np.array([mask.width, mask.height]) / 2)
    fit = min(1.0, (side / 2 - _ZOOM / 2) / half.max())
    forward, half = forward * fit, half * fit
    room = side / 2 - half
    centre = side / 2 + rng.uniform(-1, 1, 2) * np.minimum(room, 4 * _ZOOM)
    inverse = np.linalg.inv(forward)
    offset = np.array([mask.width, mask.height]) / 2 - inverse @ centre
    coefficients = (*inverse[0], offset[0], *inverse[1], offset[1])
    drawn = mask.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    blur_px = 0.3 + 1.7 * rng.beta(1.0, 3.0)
    drawn = drawn.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(blur_px))
    dark, light = rng.uniform(0.0, 0.25), rng.uniform(0.7, 1.0)
    if rng.random() < 0.5:  # half of all are black and white
        dark, light = 0.0, 1.0
    ground, ink = (dark, light) if kind.tone == "light on dark" else (light, dark)
    ink_share = np.asarray(drawn, np.float64) / 255
    return Image.fromarray(np.round(255 * (ground + (ink - ground) * ink_share)).astype(np.uint8))


@functools.lru_cache(maxsize=1024)
def _glyph(font: str, digit: int) -> Image.Image:
    """A digit at 200 px a line, cut to its ink: grey, 255 where there is ink."""
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    type_ = ImageFont.truetype(str(file), 200)
    canvas = Image.new("L", (400, 400))
    ImageDraw.Draw(canvas).text((100, 80), str(digit), font=type_, fill=255)
    # A rim without ink, so that what lies outside the glyph is not smeared along its edge.
    left, top, right, bottom = canvas.getbbox()
    return canvas.crop((left - 4, top - 4, right + 4, bottom + 4))


def write_world(folder: Path, seed: int, per_kind: int, test_per_kind: int) -> None:
    """Writes FOLDER/train/KIND/*.png, FOLDER/test/KIND/*.png and, last, FOLDER/captions.json."""
    for number, (split, count) in enumerate((("train", per_kind), ("test", test_per_kind))):
        for which, kind in enumerate(KINDS):
            place = folder / split / kind.name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                rng = np.random.default_rng((seed, number, which, i))
                typeset(kind, rng).save(place / f"{i:05d}.png")
    captions = {kind.name: kind.captions for kind in KINDS}
    (folder / "captions.json").write_text(json.dumps(captions, indent=1) + "\n")
