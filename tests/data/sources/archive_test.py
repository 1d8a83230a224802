"""Files of folders and archives: named and read in place; paths that lead out and zip bombs are refused unread."""

import os
import pickle
import stat
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.image import encode_png
from jaxmoust.data.sources import archive as members_module
from jaxmoust.data.sources.archive import FileImages, is_inside, open_members

FILES = {"cat/0.png": b"zero", "cat/1.png": b"one", "dog/0.png": b"", "notes.txt": b"words"}


def write_zip(path, files, **options):
    """Writes members; a name may be a ZipInfo."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_members_of_a_folder_and_of_an_archive_read_alike(tmp_path, write):
    found = open_members(write(tmp_path / "set", FILES))
    assert found.names == tuple(sorted(FILES))
    assert {name: found.read(name) for name in found.names} == FILES
    copy = pickle.loads(pickle.dumps(found))
    assert copy == found and copy.read("cat/1.png") == b"one"


@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_members_leave_out_what_is_hidden(tmp_path, write):
    hidden = {".DS_Store": b"", "cat/.x.png": b"", ".git/a": b"", "__MACOSX/cat/0.png": b""}
    assert open_members(write(tmp_path / "set", FILES | hidden)).names == tuple(sorted(FILES))


@pytest.mark.parametrize("name", ["a.png", "a/b.png", "a b/ü (2).png", "a..b/..c.png", "a/"])
def test_is_inside_takes_plain_relative_names(name):
    assert is_inside(name)


@pytest.mark.parametrize(
    "name",
    [
        *("../a.png", "a/../../b.png", "a/..", "..", "/etc/a.png", "//a.png", "C:/a.png", "c:a.png", "..\\a.png"),
        *("\\\\host\\a.png", "a\0.png", "", ".", "./a.png", "a//b.png", "a/./b.png", "/"),
    ],
)
def test_is_inside_refuses_names_that_lead_out_or_are_unclear(name):
    assert not is_inside(name)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("./\\a:"), max_size=8))
def test_is_inside_never_lets_a_name_leave_its_folder(name):
    joined = os.path.normpath(os.path.join("/base/folder", name))
    assert not is_inside(name) or joined.startswith("/base/folder/")


@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_file_images_are_those_of_the_files_and_a_missing_one_is_named(tmp_path, write):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    images = FileImages(open_members(write(tmp_path / "set", {"cat.png": encode_png(pixels)})), 3)
    np.testing.assert_array_equal(images[0], pixels)


def test_file_images_name_a_file_that_has_gone(tmp_path):
    images = FileImages(open_members(write_folder(tmp_path / "set", {"cat.png": b"x"})), 3)
    (tmp_path / "set" / "cat.png").unlink()
    with pytest.raises(ValueError, match=r"unreadable file, .*cat\.png"):
        images.encoded(0)


# ---- hostile archives


def lead_out(name):
    return {"cat/0.png": b"x", name: b"x"}


def link(kind):
    info = zipfile.ZipInfo("cat/link.png")
    info.external_attr = (kind | 0o777) << 16
    return {"cat/0.png": b"x", info: b"/etc/passwd"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        *((lead_out(name), "lead out") for name in ("../a.png", "cat/../../a.png", "/a.png", "C:/a.png", "..\\a.png")),
        (link(stat.S_IFLNK), r"links or devices in .*'cat/link\.png'"),
        (link(stat.S_IFCHR), "links or devices"),
        ({"cat/0.png": bytes(2 << 20)}, r"over a hundred times their size in .*'cat/0\.png'"),
        ({f"cat/{i}.png": bytes(1 << 20) for i in range(8)}, "expected members that do not overlap"),
    ],
)
def test_open_members_refuses_a_hostile_archive_and_writes_nothing(tmp_path, monkeypatch, files, said):
    path = write_zip(tmp_path / "set.zip", files)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        open_members(path)
    assert os.listdir(tmp_path) == ["set.zip"] and not (tmp_path.parent / "a.png").exists()


def test_open_members_refuses_members_of_the_same_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("cat/0.png", b"shown")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("cat/0.png", b"hidden")
    with pytest.raises(ValueError, match=r"members of the same name .*cat/0\.png"):
        open_members(tmp_path / "set.zip")


def test_open_members_refuses_a_member_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(members_module, "MAX_FILE_BYTES", 3)
    for write in (write_zip, write_folder):
        with pytest.raises(ValueError, match=r"of more than 3 bytes.*cat/0\.png"):
            open_members(write(tmp_path / write.__name__, FILES))


def test_open_members_refuses_an_archive_that_is_too_large_in_all(tmp_path, monkeypatch):
    monkeypatch.setattr(members_module, "MAX_TOTAL_BYTES", 10)
    with pytest.raises(ValueError, match="expected members that do not overlap, at most 10 bytes"):
        open_members(write_zip(tmp_path / "set.zip", FILES))


def test_open_members_refuses_members_that_share_their_bytes(tmp_path):
    """A thousand names for the same packed megabyte: the other kind of bomb."""
    path = write_zip(tmp_path / "set.zip", {"cat/0.png": os.urandom(4000)})
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.infolist()[0]
        for i in range(1, 4):
            twin = zipfile.ZipInfo(f"cat/{i}.png")
            for field in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(twin, field, getattr(first, field))
            archive.filelist.append(twin)
        archive._didModify = True
    with pytest.raises(ValueError, match="do not overlap"):
        open_members(path)


def test_open_members_refuses_encrypted_members(tmp_path):
    path = write_zip(tmp_path / "set.zip", {"cat/0.png": b"x"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # the flag of encryption in the directory
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"encrypted members .*unpack it"):
        open_members(path)


@pytest.mark.parametrize("cut", [0, 10, -10])
def test_open_members_refuses_what_is_no_whole_archive(tmp_path, cut):
    path = write_zip(tmp_path / "set.zip", FILES)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"no whole zip archive"):
        open_members(path)


def test_members_read_refuses_bytes_that_do_not_fit_their_check_sum(tmp_path):
    path = write_zip(tmp_path / "set.zip", {"cat/0.png": os.urandom(100)})
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"unreadable file, cat/0\.png in .*set\.zip"):
        open_members(path).read("cat/0.png")


def test_members_read_gives_no_more_than_the_directory_announces(tmp_path):
    """A member that unpacks to a megabyte, whose directory says 100 bytes: never more than that is unpacked."""
    path = write_zip(tmp_path / "set.zip", {"cat/0.png": os.urandom(1 << 20)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2")
    assert int.from_bytes(data[at + 24 : at + 28], "little") == 1 << 20
    data[at + 24 : at + 28] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="unreadable file"):
        open_members(path).read("cat/0.png")


def test_open_members_refuses_links_in_a_folder(tmp_path):
    root = write_folder(tmp_path / "set", FILES)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "cat" / "2.png").symlink_to(tmp_path / "secret.png")
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"links or devices in .*'cat/2\.png', 'out'"):
        open_members(root)


def test_open_members_refuses_a_path_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="expected an existing folder or zip archive"):
        open_members(tmp_path / "none.zip")
