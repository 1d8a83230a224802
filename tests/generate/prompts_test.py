"""Prompts: templates, names, captions, and which image is asked for with which."""

import json

import pytest

from jaxmoust.generate import prompts

NAMES = ("cat", "n02084071")


def test_every_class_is_put_into_every_template_under_its_word():
    made = prompts.from_templates(["a photo of a {}", "art of the {}."], NAMES, {"n02084071": "dog"})
    assert made == (("a photo of a cat", "art of the cat."), ("a photo of a dog", "art of the dog."))


def test_images_of_a_class_take_its_prompts_in_turn():
    made = (("a", "b", "c"), ("d",))
    assert prompts.of_images(made, [0, 0, 0, 0, 1, 1], [0, 1, 2, 3, 0, 5]) == ["a", "b", "c", "a", "d", "d"]


def test_prompts_are_read_from_files(tmp_path):
    (tmp_path / "templates.txt").write_text("a {}\n\nthe {}\n")
    (tmp_path / "words.json").write_text(json.dumps({"n02084071": "dog"}))
    (tmp_path / "captions.json").write_text(json.dumps({"cat": ["it purrs"], "n02084071": ["it barks", "it runs"]}))
    words = {"words_file": str(tmp_path / "words.json")}
    assert prompts.read(NAMES, template="a {}", **words) == (("a cat",), ("a dog",))
    assert prompts.read(NAMES, templates_file=str(tmp_path / "templates.txt"), **words)[1] == ("a dog", "the dog")
    captions = prompts.read(NAMES, captions_file=str(tmp_path / "captions.json"))
    assert captions == (("it purrs",), ("it barks", "it runs"))


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ({}, "exactly one"),
        ({"template": "a {}", "captions_file": "x"}, "exactly one"),
        ({"template": "a photo"}, "each with one {}"),
        ({"template": "a {} and a {}"}, "each with one {}"),
        ({"template": "a {0}"}, "each with one {}"),
        ({"templates_file": "absent.txt"}, "cannot be read"),
        ({"template": "a {}", "words_file": "WORDS"}, r"\['horse'\], which are no classes"),
        ({"captions_file": "WORDS"}, r"captions of \['horse'\] that are no lists of texts"),
        ({"captions_file": "OTHER"}, "without any for"),
        ({"template": "a {}", "words_file": "NUMBERS"}, r"words for \['cat'\] that are no texts"),
        ({"captions_file": "LIST"}, "holds a list"),
        ({"captions_file": "BROKEN"}, "not JSON at line 1"),
        ({"captions_file": "DEEP"}, "nested too deep"),
    ],
)
def test_prompts_that_cannot_be_made_are_refused(tmp_path, ask, said):
    contents = {"WORDS": '{"horse": "pony"}', "LIST": "[1]", "BROKEN": "{", "DEEP": "[" * 10**5}
    contents |= {"OTHER": '{"horse": ["pony"]}', "NUMBERS": '{"cat": 1}'}
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    ask = {k: str(tmp_path / v) if v in contents else v for k, v in ask.items()}
    with pytest.raises(ValueError, match=said):
        prompts.read(NAMES, **ask)
