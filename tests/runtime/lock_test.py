"""The lease of a file: one process has it, it goes with the process, and who asks in vain does no harm."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxmoust.runtime.lock import alone, holder, lease, own_locks


def test_lease_is_given_once_and_again_when_it_is_free(tmp_path):
    path = tmp_path / "store" / ".a.lease"
    with lease(path) as first:
        with lease(path) as second, lease(tmp_path / ".b.lease") as other:
            assert (first, second, other) == (True, False, True)
        assert path.exists()  # the refused one leaves the holder's file
        assert holder(path).startswith(f"process {os.getpid()} on ")
    assert list(path.parent.iterdir()) == [] and holder(path) == ""
    with lease(path) as again:
        assert again


def test_lease_ends_with_a_block_that_fails(tmp_path):
    with pytest.raises(KeyError), lease(tmp_path / "l"):
        raise KeyError
    with lease(tmp_path / "l") as held:
        assert held


def test_lease_of_a_file_that_its_holder_removed_in_between_is_refused(tmp_path, monkeypatch):
    """The one race that a lock file has: opened by us, removed by its holder, then locked by us."""
    path, real_flock = tmp_path / "l", fcntl.flock

    def flock(descriptor, operation):
        path.unlink(missing_ok=True)
        real_flock(descriptor, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        with lease(path) as held:
            assert not held
    with lease(path) as held:
        assert held


def test_lease_goes_with_its_process_and_names_it_while_others_ask(tmp_path):
    script = """
import sys, time
from jaxmoust.runtime.lock import lease
with lease(sys.argv[1]) as held:
    print(held, "jax" in sys.modules, flush=True)
    time.sleep(3600)
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "l")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "True False\n"
        for _ in range(2):
            with lease(tmp_path / "l") as held:
                assert not held
            assert holder(tmp_path / "l").startswith(f"process {process.pid} on ")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with lease(tmp_path / "l") as held:
        assert held


def test_lease_on_a_disk_without_locks_is_given_with_a_warning(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="has no locks .* one process at a time"), lease(tmp_path / "l") as held:
        assert held


def test_alone_waits_for_its_turn_and_leaves_nothing(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count(_):
        for _ in range(5):
            with alone(tmp_path / ".lock"):
                value = int(counter.read_text())
                time.sleep(0.001)
                counter.write_text(str(value + 1))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(4)))
    assert counter.read_text() == "20" and list(tmp_path.iterdir()) == [counter]


def test_holder_says_for_how_long_and_what_ends_one_that_is_stopped(tmp_path):
    path = tmp_path / "l"
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        path.write_text(f"process {sleeper.pid} on {socket.gethostname()}\n")
        os.utime(path, (time.time() - 600,) * 2)
        assert holder(path) == f"process {sleeper.pid} on {socket.gethostname()} (for 10 min)"
        sleeper.send_signal(signal.SIGSTOP)
        patience = time.monotonic() + 20
        while "is stopped" not in holder(path):
            assert time.monotonic() < patience
            time.sleep(0.01)
        assert f"`kill -CONT {sleeper.pid}` lets it go on, `kill -KILL {sleeper.pid}` ends it" in holder(path)
    finally:
        sleeper.kill()
        sleeper.wait()


MOUNTS = """
22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/bucket rw,nosuid - fuse.gcsfuse bucket rw,user_id=0
31 22 0:41 / /mnt/my\\040disk rw - nfs4 host:/disk rw,vers=4.2,local_lock=none
32 22 0:42 / /mnt/old rw - nfs host:/old rw,vers=3,nolock,local_lock=all
33 30 0:43 / /mnt/bucket/inside rw - xfs /dev/sdb rw
34 22 0:44 / /mnt/s3 rw,nosuid - fuse mountpoint-s3 rw,user_id=0
35 22 0:45 / /mnt/lustre rw - lustre host@tcp:/fs rw,localflock,lazystatfs
36 22 0:46 / /mnt/scratch rw - lustre host@tcp:/fs rw,flock,lazystatfs
37 22 0:47 / /mnt/windows rw - cifs //host/share rw,nobrl
38 22 0:48 / /mnt/block rw - fuseblk /dev/sdc rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/me", ""),
        ("/mnt/bucket", "fuse.gcsfuse"),
        ("/mnt/bucket/runs", "fuse.gcsfuse"),
        ("/mnt/bucket_of_mine", ""),
        ("/mnt/my disk/runs", ""),
        ("/mnt/old/runs", "nfs"),
        ("/mnt/bucket/inside/runs", ""),
        ("/mnt/s3/runs", "fuse"),
        ("/mnt/lustre/runs", "lustre"),
        ("/mnt/scratch/runs", ""),
        ("/mnt/windows", "cifs"),
        ("/mnt/block/runs", ""),
    ],
)
def test_disks_whose_locks_stay_on_one_machine_are_known(tmp_path, folder, kind):
    (tmp_path / "mountinfo").write_text(MOUNTS.lstrip())
    assert own_locks(folder, str(tmp_path / "mountinfo")) == kind
    assert own_locks(folder, str(tmp_path / "absent")) == ""


def test_a_lease_on_such_a_disk_is_given_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxmoust.runtime.lock.own_locks", lambda folder: "fuse.gcsfuse")
    with (
        pytest.warns(UserWarning, match=r"\(fuse.gcsfuse\) keeps locks on this machine"),
        lease(tmp_path / "l") as ours,
    ):
        assert ours
