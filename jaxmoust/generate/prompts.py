"""The prompts of each class for a text-to-image generator, from templates and names, or from captions.

Image i of a class has prompt i mod n of the class's n prompts, so that it is a function of (class, i).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jaxmoust.runtime.paths import read_json, read_text

Prompts = tuple[tuple[str, ...], ...]
"""For each class, in the order of the labels, at least one prompt."""


def from_templates(
    templates: Sequence[str], class_names: Sequence[str], words: Mapping[str, str] | None = None
) -> Prompts:
    """Puts each class's name into each template, as CLIP's lists of templates are meant.

    Args:
        templates: each with one {}, such as "a photo of a {}".
        class_names: K names.
        words: what a class is called in prompts, by its name, where that is something else: "n01440764" -> "tench".
    Raises: ValueError: no template, one without exactly one {}, or a word for a class that is not there.
    """
    words = words or {}
    bad = [t for t in templates if t.count("{}") != 1 or t.count("{") != 1 or t.count("}") != 1]
    if bad or not templates:
        raise ValueError(
            f"Got the templates {list(templates)}: expected one or more, each with one {{}} for the class."
        )
    if wrong := [name for name, word in words.items() if not isinstance(word, str)]:
        raise ValueError(f"Got words for {wrong} that are no texts: expected {{class: what it is called}}.")
    if unknown := sorted(set(words) - set(class_names)):
        raise ValueError(f"Got words for {unknown}, which are no classes: expected {list(class_names)}.")
    return tuple(tuple(t.format(words.get(name, name)) for t in templates) for name in class_names)


def from_captions(captions: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> Prompts:
    """Takes each class's prompts as they are.

    Raises: ValueError: a class without one, captions for a class that is not there, or what is no list of texts.
    """
    wrong = [c for c, texts in captions.items() if isinstance(texts, str) or not all(isinstance(t, str) for t in texts)]
    if wrong:
        raise ValueError(f"Got captions of {wrong} that are no lists of texts: expected {{class: [prompt, ...]}}.")
    missing = [name for name in class_names if not captions.get(name)]
    unknown = sorted(set(captions) - set(class_names))
    if missing or unknown:
        raise ValueError(
            f"Got captions without any for {missing} and with some for {unknown}, which are no classes: "
            f"expected at least one for each of {list(class_names)}."
        )
    return tuple(tuple(captions[name]) for name in class_names)


def read(
    class_names: Sequence[str],
    template: str = "",
    templates_file: str = "",
    words_file: str = "",
    captions_file: str = "",
    words: Mapping[str, str] | None = None,
) -> Prompts:
    """Makes the prompts of a configuration; exactly one of the first three sources is given.

    Args:
        class_names: K names.
        template: one template, such as "a photo of a {}".
        templates_file: a text file of templates, one a line.
        words_file: a JSON file, {class: what it is called in a template}.
        captions_file: a JSON file, {class: [prompt, ...]}.
        words: {class: what it is called}, for words that the pipeline has learnt; only templates can ask for those.
    Raises: ValueError: none or several sources, a file that cannot be read, or what the sources refuse.
    """
    if sum(map(bool, (template, templates_file, captions_file))) != 1:
        raise ValueError(
            f"Got template={template!r}, templates_file={templates_file!r}, captions_file={captions_file!r}. "
            "Give exactly one of them."
        )
    if words and (captions_file or words_file):
        raise ValueError(
            f"Got captions_file={captions_file!r}, words_file={words_file!r} for a pipeline with learnt words. Give "
            "it template or templates_file alone."
        )
    if captions_file:
        return from_captions(_json(captions_file), class_names)
    templates = [template] if template else [line for line in _text(templates_file).splitlines() if line.strip()]
    return from_templates(templates, class_names, _json(words_file) if words_file else words)


def of_images(prompts: Prompts, labels: Iterable[int], indices: Iterable[int]) -> list[str]:
    """The prompt of each image (class, number within the class)."""
    return [prompts[c][i % len(prompts[c])] for c, i in zip(labels, indices, strict=True)]


def _text(path: str) -> str:
    try:
        return read_text(Path(path).expanduser())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Give the path of a text file.") from error


def _json(path: str) -> dict:
    content = read_json(Path(path).expanduser())
    if not isinstance(content, dict):
        what = "is not there" if content is None else f"holds a {type(content).__name__}"
        raise ValueError(f"{path} {what}: expected one JSON object, by class name.")
    return content
