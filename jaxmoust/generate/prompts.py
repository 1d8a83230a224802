"""The prompts of each class for a text-to-image generator, from templates and names, or from captions.

Image i of a class has prompt i mod n of the class's n prompts, so that it is a function of (class, i).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from jaxmoust.data.checks import check_choice, listed
from jaxmoust.data.samplers.permutation import make_key, shuffled
from jaxmoust.data.source import Source
from jaxmoust.runtime.paths import read_json, read_text

Prompts = tuple[tuple[str, ...], ...]
"""For each class, in the order of the labels, at least one prompt."""
OF_DATA = ("class_names", "words", "captioned", "most", "seed")  # arguments of `read` that no configuration gives


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
    contexts: Literal["", "own", "shuffle"] = "",
    other_class: bool = False,
    words: Mapping[str, str] | None = None,
    captioned: Source | None = None,
    most: int = 1,
    seed: int = 0,
) -> Prompts:
    """Makes the prompts of a configuration: from one of the three sources, or from the images' own captions.

    Args:
        class_names: K names.
        template: one template, such as "a photo of a {}"; with contexts, what stands before a caption that does not
            name its class, which is refused without one.
        templates_file: a text file of templates, one a line.
        words_file: a JSON file, {class: what it is called in a template}.
        captions_file: a JSON file, {class: [prompt, ...]}.
        contexts: what becomes of the images' captions (data.captions), in each of which the class is named as it is
            called: "own" asks for each image of the class by its caption, in turn; "shuffle" by those of all images,
            in an order of the class's own, with the class put in the place of the one they name; "" asks for none.
        other_class: whether "shuffle" leaves out the captions of the class itself.
        words: {class: what it is called}, for words that the pipeline has learnt; only templates and contexts can ask
            for those.
        captioned: the images with their captions. most: how many shuffled ones a class is asked for. seed: of these.
    Raises: ValueError: none or several sources, a file that cannot be read, or what the sources refuse.
    Source: of shuffled contexts BOB (Yang et al. 2025, 2510.24078), which trains on captions and samples under those of
        other classes.
    """
    check_choice("prompts.contexts", contexts, ("", "own", "shuffle"))
    if other_class and contexts != "shuffle":
        raise ValueError(f"prompts.other_class with prompts.contexts {contexts!r}: expected it with 'shuffle' alone.")
    if contexts:
        assert captioned is not None
        if templates_file or captions_file:
            raise ValueError(
                f"prompts.contexts {contexts!r} asks by the images' captions: expected templates_file='' and "
                "captions_file='', which are prompts by class."
            )
        called = _json(words_file) if words_file else {}
        pieces = contexts_of(captioned, class_names, called, template)
        called = {**called, **(words or {})}
        return _by_context(pieces, captioned, class_names, called, contexts, other_class, most, seed)
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


def contexts_of(
    images: Source, class_names: Sequence[str], called: Mapping[str, str], template: str = ""
) -> list[list[str]]:
    """Cuts each image's caption where it names its class: the pieces, which any class's word joins again.

    Args: called: what a class is called, where that is not its name. template: for captions that do not name it.
    Raises: ValueError: captions that do not name their class, and no template; or no captions at all.
    """
    from_templates([template or "{}"], class_names, called)  # which refuses what is no template, and unknown classes
    words = [called.get(name, name) for name in class_names]
    patterns = [re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE) for word in words]
    texts = _captions(images)
    cut = [patterns[c].split(text) for c, text in zip(images.labels, texts, strict=True)]
    silent = [i for i, pieces in enumerate(cut) if len(pieces) == 1]
    if silent and not template:
        shown = [f"{texts[i]!r:.80} of {words[images.labels[i]]!r}" for i in silent]
        raise ValueError(
            f"prompts.contexts: {len(shown):,} of {len(texts):,} captions do not name their class "
            f"({listed(shown, 3)}). Write it into them, say what it is called there (prompts.words_file), or what "
            "stands before them (prompts.template='a photo of a {}, ')."
        )
    for i in silent:
        first, second = template.split("{}")
        cut[i] = [first, second + texts[i]]
    return cut


def _captions(images: Source) -> list[str]:
    if images.captions is None:
        raise ValueError("prompts.contexts: the images have no captions. Name them in data.captions.")
    return images.captions.tolist()


def own_captions(
    images: Source,
    class_names: Sequence[str],
    template: str = "",
    words_file: str = "",
    words: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Each image's own caption, with its class as it is called; arguments as `read`, errors as `contexts_of`."""
    called = _json(words_file) if words_file else {}
    pieces = contexts_of(images, class_names, called, template)
    called = {**called, **(words or {})}
    words_of = [called.get(name, name) for name in class_names]
    return tuple(words_of[c].join(cut) for c, cut in zip(images.labels, pieces, strict=True))


def caption_report(images: Source, class_names: Sequence[str], words_file: str = "") -> dict[str, int]:
    """What a run says of its captions: how many, duplicates, the longest, and those that do not name their class."""
    pieces = contexts_of(images, class_names, _json(words_file) if words_file else {}, "\0{}")
    texts = _captions(images)
    return {
        "num": len(texts),
        "duplicates": len(texts) - len(set(texts)),
        "longest_words": max(len(text.split()) for text in texts),
        "without_class": sum(first == "\0" for first, *_ in pieces),
    }


def _by_context(
    pieces: list[list[str]],
    images: Source,
    class_names: Sequence[str],
    words: Mapping[str, str],
    contexts: str,
    other_class: bool,
    most: int,
    seed: int,
) -> Prompts:
    """The prompts of each class, as `read` says of its contexts."""
    asked = []
    for c, name in enumerate(class_names):
        own = images.labels == c
        among = np.flatnonzero(own if contexts == "own" else ~own if other_class else np.ones_like(own))
        if not among.size:
            of = "another class than" if other_class else "the class"
            raise ValueError(f"prompts.contexts {contexts!r}: no image of {of} {name!r} has a caption. Add some.")
        place = np.arange(most if contexts == "shuffle" else among.size)
        if contexts == "shuffle":
            place = shuffled(place, among.size, make_key(seed, 12, c))
        asked.append(tuple(words.get(name, name).join(pieces[i]) for i in among[place]))
    return tuple(asked)


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
