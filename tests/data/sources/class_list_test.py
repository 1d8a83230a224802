"""Class lists: names in their order; what is unknown or doubled is refused by name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.source import from_arrays
from jaxmoust.data.sources.class_list import read_class_list, select_classes


def toy(num=12):
    images = np.arange(num, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    return from_arrays(images, np.arange(num) % 4, ["ant", "bee", "cow", "dog"])


def test_read_class_list_keeps_the_order_and_drops_space(tmp_path):
    (tmp_path / "list.txt").write_text("dog \n\n  night ant\r\nbee")
    assert read_class_list(str(tmp_path / "list.txt")) == ("dog", "night ant", "bee")


@settings(max_examples=20, deadline=None)
@given(st.permutations(["ant", "bee", "cow", "dog"]), st.integers(1, 4))
def test_select_classes_keeps_every_image_of_the_named_classes_under_its_name(order, num):
    source, names = toy(), order[:num]
    part = select_classes(source, names)

    def named(s):
        return {(s.class_names[label], int(s.read(i)[0, 0, 0])) for i, label in enumerate(s.labels)}

    assert named(part) == {pair for pair in named(source) if pair[0] in names}
    assert part.class_names == tuple(names) and len(part) == 3 * num


def test_select_classes_in_another_order_is_another_set():
    digests = {select_classes(toy(), names).digest for names in (["ant", "bee"], ["bee", "ant"], ["ant"])}
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "without a name"),
        (b"\n \n", "without a name"),
        (b"ant\nbee\nant\n", r"with \['ant'\] more than once"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_read_class_list_refuses_what_is_no_list(tmp_path, text, said):
    (tmp_path / "list.txt").write_bytes(text)
    with pytest.raises(ValueError, match=f"(?s)Got the class list .*list.txt.*{said}"):
        read_class_list(str(tmp_path / "list.txt"))


def test_read_class_list_refuses_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"none\.txt.*Correct the path"):
        read_class_list(str(tmp_path / "none.txt"))


def test_select_classes_names_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"'cat', 'eel', expected the 4 classes of arrays, such as 'ant'"):
        select_classes(toy(), ["ant", "cat", "eel"])
