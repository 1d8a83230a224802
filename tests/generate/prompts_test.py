"""Prompts: templates, names, captions, and which image is asked for with which."""

import json
from dataclasses import replace

import numpy as np
import pytest

from jaxmoust.data.source import from_arrays
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


def captioned(texts, labels=(0, 0, 1, 1)):
    images = from_arrays(np.zeros((len(labels), 2, 2, 1), np.uint8), np.array(labels), NAMES)
    return replace(images, captions=np.array(texts, object))


TEXTS = ("a cat on grass", "Cat, asleep {by} a cat", "a dog in snow", "the dog's ball")
WORDS = {"n02084071": "dog"}


def ask(tmp_path, texts=TEXTS, **more):
    (tmp_path / "words.json").write_text(json.dumps(WORDS))
    given = {"words_file": str(tmp_path / "words.json"), "captioned": captioned(texts), **more}
    return prompts.read(NAMES, **given)


def test_own_captions_keep_their_class_as_it_is_called(tmp_path):
    own = (("a cat on grass", "cat, asleep {by} a cat"), ("a dog in snow", "the dog's ball"))
    assert ask(tmp_path, contexts="own") == own
    learnt = ask(tmp_path, contexts="own", words={"cat": "<cat>", "n02084071": "<d>"})
    assert learnt == (("a <cat> on grass", "<cat>, asleep {by} a <cat>"), ("a <d> in snow", "the <d>'s ball"))
    file = str(tmp_path / "words.json")
    assert prompts.own_captions(captioned(TEXTS), NAMES, words_file=file) == own[0] + own[1]


def test_shuffled_contexts_are_those_of_all_images_with_the_class_put_in(tmp_path):
    asked = ask(tmp_path, contexts="shuffle", most=8)
    contexts = ["a {} on grass", "{}, asleep [by] a {}", "a {} in snow", "the {}'s ball"]
    for word, of_class in zip(("cat", "dog"), asked, strict=True):
        every = sorted(text.format(*[word] * 2).replace("[", "{").replace("]", "}") for text in contexts)
        assert sorted(of_class[:4]) == sorted(of_class[4:]) == every  # each context once, then once more
    assert ask(tmp_path, contexts="shuffle", most=8) == asked
    assert ask(tmp_path, contexts="shuffle", most=8, seed=1) != asked
    others = ask(tmp_path, contexts="shuffle", other_class=True, most=2)
    assert set(others[0]) == {"a cat in snow", "the cat's ball"}
    assert set(others[1]) == {"a dog on grass", "dog, asleep {by} a dog"}


def test_caption_without_its_class_is_counted_and_takes_what_stands_before_it(tmp_path):
    texts = ("a cat on grass", "asleep", "asleep", "a concatenated dog")
    with pytest.raises(ValueError, match=r"2 of 4 captions do not name their class \('asleep' of 'cat', 'asleep' of"):
        ask(tmp_path, texts, contexts="own")
    asked = ask(tmp_path, texts, contexts="shuffle", template="a {}, ", most=4)
    assert "a dog, asleep" in asked[1] and "a concatenated cat" in asked[0]
    said = prompts.caption_report(captioned(texts), NAMES, str(tmp_path / "words.json"))
    assert said == {"num": 4, "duplicates": 1, "longest_words": 4, "without_class": 2}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"contexts": "mixed"}, "prompts.contexts"),
        ({"contexts": "own", "other_class": True}, "with 'shuffle' alone"),
        ({"other_class": True, "template": "a {}"}, "with 'shuffle' alone"),
        ({"contexts": "own", "templates_file": "x"}, "by the images' captions"),
        ({"contexts": "own", "template": "a photo"}, "each with one {}"),
        ({"contexts": "own", "captioned": from_arrays(np.zeros((2, 2, 2), np.uint8), [0, 1], NAMES)}, "no captions"),
        ({"contexts": "own", "captioned": captioned(("a cat",), (0,))}, "no image of the class 'n02084071'"),
        ({"contexts": "shuffle", "other_class": True, "captioned": captioned(("a cat",), (0,))}, "of another class"),
    ],
)
def test_contexts_that_cannot_be_made_are_refused(tmp_path, more, said):
    with pytest.raises(ValueError, match=said):
        ask(tmp_path, **more)
