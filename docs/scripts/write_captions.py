"""Writes photo.txt beside every photo.jpg of PATH/.../CLASS, by a vision-language model that Transformers loads.

Needs torch, transformers and pillow, and nothing of jaxmoust. Files that are there stay: the same command continues.

Run: python docs/scripts/write_captions.py --model=OWNER/MODEL --images=my_images
"""

import argparse
import contextlib
import json
import re
from pathlib import Path

# Those that the package reads; .avif wants a Pillow that knows it, .heic and .heif the package pillow-heif.
SUFFIXES = {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
SUFFIXES |= {".avif", ".heic", ".heif"}
ASK = (
    "Write one sentence of at most 25 words that says what this photo of a {name} shows: pose, surroundings, the "
    "light and the style of the photo. Call it '{name}', once. Write nothing else."
)


def captioner(model: str, device: str):
    """Returns what writes the caption of an image, a PIL image, of a class."""
    from transformers import pipeline

    write = pipeline("image-text-to-text", model=model, device=device)

    def caption(image, name: str) -> str:
        content = [{"type": "image", "image": image}, {"type": "text", "text": ASK.format(name=name)}]
        (answer,) = write(text=[{"role": "user", "content": content}], max_new_tokens=60, return_full_text=False)
        return " ".join(answer["generated_text"].split()).strip("\"'")

    return caption


def write_captions(root: Path, words: dict[str, str], caption) -> tuple[int, list[str]]:
    """Writes the captions that are missing. Returns: how many, and those of all that do not name their class."""
    from PIL import Image

    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    written, silent = 0, []
    for file in sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES):
        text, name = file.with_suffix(".txt"), words.get(file.parent.name, file.parent.name)
        if not text.exists():
            with Image.open(file) as image:
                text.write_text(caption(image.convert("RGB"), name) + "\n", encoding="utf-8")
            written += 1
        # As a word of its own, as prompts.contexts looks for it.
        if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text.read_text(encoding="utf-8"), re.IGNORECASE):
            silent.append(str(text))
    return written, silent


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="OWNER/MODEL on the Hugging Face hub, or its folder")
    parser.add_argument("--images", required=True, type=Path)
    parser.add_argument("--words", type=Path, help="JSON, what a class folder is called: {'n02084071': 'dog'}")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    words = json.loads(args.words.read_text(encoding="utf-8")) if args.words else {}
    written, silent = write_captions(args.images, words, captioner(args.model, args.device))
    print(f"{written:,} captions written; {len(silent):,} do not name their class", *silent, sep="\n  ")


if __name__ == "__main__":
    main()
