"""Files of a user: plain and no larger than expected, or refused in a sentence before they are opened."""

import hostile
import numpy as np
import pytest

from jaxmoust.runtime.paths import check_plain, file_digest, parse_json, read_bytes, read_json, read_npz, read_text


@pytest.mark.parametrize("kind", hostile.SPECIAL[:-1], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("read", [check_plain, read_bytes, read_text, read_json, read_npz])
def test_what_is_no_plain_file_is_refused_for_what_it_is(tmp_path, kind, read):
    what = {"fifo": "a named pipe", "zeros": "a device", "unix_socket": "a socket", "folder": "a folder"}
    with pytest.raises(ValueError, match=rf"{kind.__name__}, which is {what[kind.__name__]}, expected a plain file"):
        read(kind(tmp_path / kind.__name__))


def test_a_file_is_read_up_to_the_size_that_is_allowed(tmp_path):
    (tmp_path / "text").write_text("été")
    assert read_text(tmp_path / "text", 5) == "été"
    with pytest.raises(ValueError, match="text of 5 bytes, expected at most 4"):
        read_text(tmp_path / "text", 4)
    with pytest.raises(ValueError, match=r"of 68,719,476,736 bytes, expected at most 134,217,728"):
        read_bytes(hostile.sparse(tmp_path / "sparse"))
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none")


@pytest.mark.parametrize("kind", hostile.JSONS, ids=lambda kind: kind.__name__)
def test_json_that_is_damaged_is_refused_with_its_file(tmp_path, kind):
    with pytest.raises(ValueError, match=rf"^\S*{kind.__name__} (is damaged|cannot be read)"):
        read_json(kind(tmp_path / kind.__name__))


def test_json_that_is_too_long_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(ValueError, match=r"sparse cannot be read: .* expected at most 67,108,864"):
        read_json(hostile.sparse(tmp_path / "sparse"))
    with pytest.raises(ValueError, match=r"x is of 67,108,865 bytes, expected at most 67,108,864"):
        parse_json(b" " * (2**26 + 1), "x")


def test_json_of_no_file_is_none(tmp_path):
    (tmp_path / "file").write_text("1")
    assert read_json(tmp_path / "none") is None and read_json(tmp_path / "file" / "none") is None
    assert read_json(tmp_path / "file") == 1


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_as_they_were_saved(tmp_path, save):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b/c": np.zeros((0, 4), np.uint8), "n": np.float32(2)}
    save(tmp_path / "x.npz", **arrays)
    read = read_npz(tmp_path / "x.npz")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    assert read_npz(tmp_path / "x.npz", ("a", "z")).keys() == {"a"}


@pytest.mark.parametrize("make", hostile.SPECIAL[:-1])
def test_digest_of_what_is_no_plain_file_is_none(tmp_path, make):
    make(tmp_path / "odd")
    assert file_digest(tmp_path / "odd") == "" == file_digest(tmp_path / "a\0b")
