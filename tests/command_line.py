"""What tests of the command line share: two quick commands, and what a refusal and its folders are held to."""

from pathlib import Path

import numpy as np
from PIL import Image

from jaxmoust.data.sources import registry as sources

ROOT = Path(__file__).parents[1]
EDM = "--config=configs/generator/digits_edm.py:quick"
RESNET = "--config=configs/classifier/digits_resnet.py:quick"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes: what "nothing was written" is judged by."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


def assert_refused(outcome, *words: str) -> None:
    """Bad usage or input: exit code 2, one clear message with these words, and no traceback."""
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("jaxmoust: ") and "Traceback" not in outcome.err, outcome.err
    for word in words:
        assert word in outcome.err, f"{word!r} is not in {outcome.err}"


def write_images(folder: Path, per_class: int = 6, size_px: int = 8, classes: str = "0123456789") -> Path:
    """Writes FOLDER/CLASS/*.png from the digits."""
    digits = sources.digits("train")
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i, key in enumerate(np.flatnonzero(digits.labels == int(name))[:per_class]):
            image = Image.fromarray(digits.read(key)[..., 0]).resize((size_px, size_px))
            image.save(folder / name / f"{i:02}.png")
    return folder
