"""Files and leases in buckets, and copies of folders."""

import os
import threading
import time

import pytest

from jaxmoust.runtime import bucket, bucket_copy
from jaxmoust.runtime.bucket import LEASE, Bucket, BucketError, Lease, holder, lease
from jaxmoust.runtime.bucket_copy import Copy, fetched, working_copy


@pytest.fixture
def quick(monkeypatch):
    """Signs of life and looks in fractions of a second."""
    monkeypatch.setattr(bucket, "BEAT_SECS", 0.1)
    monkeypatch.setattr(bucket, "DEAD_SECS", 1.0)
    monkeypatch.setattr(bucket_copy, "PUBLISH_SECS", 0.2)


def fill(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_files_are_listed_read_and_written_once(bucket_url):
    there = Bucket(f"{bucket_url}/run")
    assert there.files() == {} and there.read("a") is None
    there.write("a", b"1", new=True)
    with pytest.raises(FileExistsError):
        there.write("a", b"2", new=True)
    there.write("inner/b", b"22")
    assert {name: size for name, (size, _) in there.files().items()} == {"a": 1, "inner/b": 2}
    before = there.files()["a"]
    time.sleep(0.01)
    there.write("a", b"3")
    assert there.read("a") == b"3" and there.files()["a"] != before
    there.remove("a")
    there.remove("a")
    assert list(there.files()) == ["inner/b"]


def test_copy_follows_its_bucket(bucket_url, tmp_path):
    first, second = (Copy(Bucket(f"{bucket_url}/run"), tmp_path / name) for name in "ab")
    fill(first.path, config_json="{}", checkpoints__100__state="one", result_json="{}")
    first.publish()
    second.pull()
    assert (second.path / "checkpoints/100/state").read_text() == "one"
    fill(
        second.path, checkpoints__200__state="two", **{".lock": "", "checkpoints__300.orbax-checkpoint-tmp__x": "half"}
    )
    (second.path / "checkpoints/100/state").unlink()
    second.publish()
    assert sorted(second.bucket.files()) == ["checkpoints/200/state", "config.json", "result.json"]
    first = Copy(first.bucket, first.path)  # as another process opens it
    first.pull()
    assert not (first.path / "checkpoints/100/state").exists()
    assert (first.path / "checkpoints/200/state").read_text() == "two"


def test_what_is_there_is_not_fetched_again_and_what_is_other_is(bucket_url, tmp_path, monkeypatch):
    there, asked = Bucket(f"{bucket_url}/run"), []
    there.write("a", b"1"), there.write("b", b"1")
    copy = Copy(there, tmp_path / "copy")
    copy.pull()
    got = Bucket.get
    monkeypatch.setattr(Bucket, "get", lambda self, name, path: (asked.append(name), got(self, name, path)))
    Copy(there, tmp_path / "copy").pull()
    assert asked == []
    time.sleep(0.01)
    there.write("b", b"2")
    (tmp_path / "copy/a").write_bytes(b"changed")
    Copy(there, tmp_path / "copy").pull()
    assert sorted(asked) == ["a", "b"]
    assert [(tmp_path / "copy" / name).read_bytes() for name in "ab"] == [b"1", b"2"]


def test_result_comes_last_and_goes_first(bucket_url, tmp_path, monkeypatch):
    copy, order = Copy(Bucket(f"{bucket_url}/run"), tmp_path / "copy"), []
    fill(copy.path, result_json="{}", digests_json="{}", zzz="1", config_json="{}")
    put, remove = Bucket.put, Bucket.remove
    monkeypatch.setattr(Bucket, "put", lambda self, name, path: (order.append(name), put(self, name, path)))
    monkeypatch.setattr(Bucket, "remove", lambda self, name: (order.append(f"-{name}"), remove(self, name)))
    copy.publish()
    assert set(order[:2]) == {"config.json", "zzz"} and order[2:] == ["digests.json", "result.json"]
    order.clear()
    fill(copy.path, result_json='{"a": 1}', zzz="2")
    copy.publish()
    assert order == ["-result.json", "zzz", "result.json"]


def test_lease_is_of_one_until_given_back(bucket_url, quick):
    there = Bucket(f"{bucket_url}/run")
    with lease(Lease(there, LEASE)) as ours:
        assert ours and holder(there) == f"process {os.getpid()} on {os.uname().nodename}"
        with lease(Lease(there, LEASE), wait=True) as other:  # which waits until the first is seen to live
            assert not other
        time.sleep(2 * bucket.DEAD_SECS)  # it lives on
        with lease(Lease(there, LEASE)) as other:
            assert not other
    assert holder(there) == ""
    with lease(Lease(there, LEASE)) as again:
        assert again


def test_lease_that_was_given_back_is_not_ours_when_another_has_it(bucket_url, quick):
    """One object asks for it again and again, as a store does for each of its stages."""
    mine, other = (Lease(Bucket(f"{bucket_url}/run"), LEASE) for _ in range(2))
    with lease(mine) as ours:
        assert ours
    with lease(other) as theirs:
        assert theirs and not mine
        with lease(mine) as ours:
            assert not ours
    with lease(mine) as ours:
        assert ours


def test_lease_of_the_dead_is_taken_over_by_one(bucket_url, quick):
    there, taken = Bucket(f"{bucket_url}/run"), []
    there.write(f"{LEASE}.7", b"process 1 on elsewhere, 00, beat 3")

    def contend():
        with lease(Lease(there, LEASE), wait=True) as ours:
            taken.append(bool(ours))
            over.wait(20)

    over = threading.Event()
    threads = [threading.Thread(target=contend) for _ in range(3)]
    [thread.start() for thread in threads]
    deadline = time.monotonic() + 15
    while len(taken) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    over.set()
    [thread.join() for thread in threads]
    assert sum(taken) <= 1  # two that come at once both leave it
    if not any(taken):
        with lease(Lease(there, LEASE), wait=True) as ours:
            assert ours


def test_lease_that_others_took_over_is_lost(bucket_url, quick, tmp_path):
    url = f"{bucket_url}/run"
    with pytest.raises(BucketError, match="taken over by another process"), working_copy(url, tmp_path) as folder:
        fill(folder, config_json="{}")
        Bucket(url).write(f"{LEASE}.2", b"process 1 on elsewhere, 00, beat 0")
        time.sleep(1.0)
        fill(folder, result_json="{}")
    assert "result.json" not in Bucket(url).files()


def test_working_copy_is_published_while_it_is_worked_on_and_when_that_fails(bucket_url, quick, tmp_path):
    url = f"{bucket_url}/run"
    with pytest.raises(RuntimeError), working_copy(url, tmp_path) as folder:
        fill(folder, checkpoints__1__state="one")
        deadline = time.monotonic() + 10
        while "checkpoints/1/state" not in Bucket(url).files() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "checkpoints/1/state" in Bucket(url).files()
        with pytest.raises(BucketError, match="is in use by process"), working_copy(url, tmp_path / "other"):
            pass
        fill(folder, metrics="line")
        raise RuntimeError("a run fails")
    assert sorted(Bucket(url).files()) == ["checkpoints/1/state", "metrics"]


def test_what_is_read_is_kept_up_to_a_size(bucket_url, tmp_path, monkeypatch):
    Bucket(f"{bucket_url}/a").write("x", b"1" * 1000)
    Bucket(f"{bucket_url}/b").write("y.txt", b"2" * 1000)
    assert (fetched(f"{bucket_url}/a") / "x").read_bytes() == b"1" * 1000
    assert fetched(f"{bucket_url}/b/y.txt").read_bytes() == b"2" * 1000
    with pytest.raises(BucketError, match="nothing at"):
        fetched(f"{bucket_url}/c")
    monkeypatch.setenv(bucket_copy.CACHE_GB, "0.0000012")
    bucket_copy._in_use.clear()  # as when another process comes
    fetched(f"{bucket_url}/b/y.txt")
    assert [path.name[0] for path in bucket_copy.cache_folder().iterdir()] == ["y"]


def test_bucket_that_is_not_there_or_not_spoken_to_is_refused(bucket_url, tmp_path, monkeypatch):
    if bucket_url.startswith("s3"):
        with pytest.raises(BucketError, match=r"cannot be read or written.*AWS_ACCESS_KEY_ID"):
            fetched("s3://no-such-bucket/run")
    monkeypatch.setitem(bucket.SCHEMES, "abfs", "nothing")  # which fsspec knows a package for
    with pytest.raises(BucketError, match=r"jaxmoust\[nothing\]"):
        fetched("abfs://bucket/run")
