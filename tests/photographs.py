"""Folders of photographs as people have them: a function a kind, each changes a good folder and gives what it says.

A good folder holds 4 photographs of 24 x 16 pixels in each of three classes, no two of which look the same.
"""

import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, EACH = ("bird", "cat", "dog"), 4
ORIENTATION = 274


def pixels(c: int, i: int, height: int = 16, width: int = 24) -> np.ndarray:
    """Photograph i of class c: a smooth picture, uint8 [height, width, 3]."""
    coarse = np.random.default_rng([c, i]).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def write(root: Path, prefix: str = "", each: int = EACH, first: int = 0) -> Path:
    """Writes a good folder, or one of its splits."""
    for c, name in enumerate(CLASSES):
        (root / prefix / name).mkdir(parents=True, exist_ok=True)
        for i in range(first, first + each):
            Image.fromarray(pixels(c, i)).save(root / prefix / name / f"{i}.png")
    return root


def first(root: Path) -> Image.Image:
    """The first cat, which is taken away to be put back as something else."""
    with Image.open(root / "cat" / "0.png") as image:
        image.load()
    (root / "cat" / "0.png").unlink()
    return image


def jpeg(image: Image.Image, **options) -> bytes:
    """The bytes of a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


# ---- read, as the first cat or one of its kind


def lying(root: Path, suffix: str = "jpg") -> None:
    """The first cat as a phone stores it that was held upright: on its side, with a word in its EXIF."""
    image, exif = first(root).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[ORIENTATION] = 6
    image.save(root / "cat" / f"0.{suffix}", exif=exif, **({"quality": 95} if suffix == "jpg" else {}))


def lying_png(root: Path) -> None:
    """The same as PNG."""
    lying(root, "png")


def transparent(root: Path) -> None:
    """The first cat with a corner cut out."""
    image = first(root).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 4, 4))
    image.save(root / "cat" / "0.png")


def nearly_opaque(root: Path) -> None:
    """The first cat with one pixel that is not quite opaque."""
    image = first(root).convert("RGBA")
    image.putpixel((0, 0), (0, 0, 0, 254))
    image.save(root / "cat" / "0.png")


def transparent_palette(root: Path) -> None:
    """A cat of few colours, one of them transparent."""
    first(root).quantize(8).save(root / "cat" / "0.gif", transparency=0)


def sixteen_bits(root: Path, suffix: str = "png") -> None:
    """The first cat in grey, of 16 bits."""
    grey = np.asarray(first(root).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(root / "cat" / f"0.{suffix}")


def sixteen_bits_tiff(root: Path) -> None:
    """The same as TIFF."""
    sixteen_bits(root, "tif")


def avif(root: Path) -> None:
    """The first cat as AVIF."""
    first(root).save(root / "cat" / "0.avif", quality=95)


def heic(root: Path) -> None:
    """The first cat as HEIC."""
    first(root).save(root / "cat" / "0.heic", quality=95)


def animated(root: Path) -> None:
    """A film that begins with the first cat."""
    image = first(root)
    image.save(root / "cat" / "0.webp", save_all=True, append_images=[Image.new("RGB", image.size)], lossless=True)


def cmyk(root: Path) -> None:
    """The first cat in a printer's colours."""
    first(root).convert("CMYK").save(root / "cat" / "0.jpg", quality=95)


# ---- not read


def truncated(root: Path) -> None:
    """A JPEG of which the last part is not there."""
    (root / "cat" / "0.jpg").write_bytes(jpeg(first(root).resize((240, 160)))[:-900])


def header_only(root: Path) -> None:
    """A JPEG of which the pixels are not there."""
    (root / "cat" / "0.jpg").write_bytes(jpeg(first(root))[:620])


def zero_bytes(root: Path) -> None:
    """Nothing under an image's name."""
    first(root)
    (root / "cat" / "0.jpg").write_bytes(b"")


def web_page(root: Path) -> None:
    """What a server says instead of an image."""
    first(root)
    (root / "cat" / "0.jpg").write_bytes(b"<!DOCTYPE html><html>Access denied</html>")


def folder_named_as_image(root: Path) -> None:
    """A folder under an image's name."""
    first(root)
    (root / "cat" / "0.jpg").mkdir()


def floats(root: Path) -> None:
    """Floats, of which nothing says which is white."""
    Image.fromarray(np.asarray(first(root).convert("L")).astype(np.float32) / 255).save(root / "cat" / "0.tif")


BAD = (truncated, header_only, zero_bytes, web_page, folder_named_as_image, floats)


# ---- what lies beside


def system_files(root: Path) -> None:
    """What systems and viewers leave behind."""
    for name in ("@eaDir", "__MACOSX/cat", ".ipynb_checkpoints"):
        (root / name).mkdir(parents=True)
        (root / name / "._0.png").write_bytes(b"x")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "cat/Thumbs.db", "cat/._0.png"):
        (root / name).write_bytes(b"x")


def link_to_itself(root: Path) -> None:
    """A link from a folder to itself."""
    (root / "again").symlink_to(root, target_is_directory=True)


def others(root: Path) -> None:
    """A note, an image beside the class folders, and one in a folder inside a class."""
    (root / "cat" / "notes.txt").write_text("x")
    shutil.copy(root / "cat" / "0.png", root / "best.png")
    (root / "cat" / "old").mkdir()
    Image.fromarray(pixels(7, 7)).save(root / "cat" / "old" / "9.png")


def unread_kind(root: Path) -> None:
    """A file that an extra would read."""
    (root / "cat" / "9.heic").write_bytes(b"x")


def alike_names(root: Path) -> None:
    """A class whose name differs in case alone, and one in two Unicode forms."""
    for c, name in enumerate(("Cat", "caf\u00e9", "cafe\u0301")):
        (root / name).mkdir()
        for i in range(2):
            Image.fromarray(pixels(10 + c, i)).save(root / name / f"{i}.png")


def in_two_classes(root: Path) -> None:
    """The first cat among the dogs, compressed again and smaller."""
    with Image.open(root / "cat" / "0.png") as image:
        image.resize((18, 12), Image.Resampling.BICUBIC).save(root / "dog" / "9.jpg", quality=80)


# ---- other layouts


def empty_classes(root: Path) -> None:
    """Two class folders without an image."""
    for name in ("cow", "emu"):
        (root / name).mkdir()


def deeper(root: Path) -> None:
    """Classes one level deeper."""
    inside = root / "animals"
    inside.mkdir()
    for name in CLASSES:
        (root / name).rename(inside / name)


def flat(root: Path) -> None:
    """No folders at all."""
    for name in CLASSES:
        for file in (root / name).iterdir():
            file.rename(root / f"{name}_{file.name}")
        (root / name).rmdir()


def one_image(root: Path) -> None:
    """A class with one image."""
    for i in range(1, EACH):
        (root / "cat" / f"{i}.png").unlink()
