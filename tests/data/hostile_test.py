"""What readers of a user's files do with hostile ones: a sentence, in little memory and little time."""

import os
import subprocess
import sys
from pathlib import Path

import hostile
import pytest

# Runs every reader on every file that may be given to it, with little more memory than the imports took.
SCRIPT = """
import faulthandler, resource, sys
from pathlib import Path
from PIL import Image
import hostile
from jaxmoust.analysis.equivalence.results_csv import read_rows
from jaxmoust.data.image import AS_IT_IS
from jaxmoust.data.sources.archive_source import readable_source
from jaxmoust.data.sources.class_list import read_class_list
from jaxmoust.data.sources.image_folder import image_folder
from jaxmoust.data.sources.labels import Labelled
from jaxmoust.data.sources.medmnist import medmnist
from jaxmoust.data.sources.registry import read_idx
from jaxmoust.data.synthetic.importer import import_images
from jaxmoust.generate import prompts
from jaxmoust.jobs.parts.inputs import content_digest
from jaxmoust.models.translate import read_arrays
from jaxmoust.report.contact_sheet import contact_sheet
from jaxmoust.runtime.paths import read_json

root, room = Path(sys.argv[1]), int(sys.argv[2])
plain = root / "plain"
(plain / "cat").mkdir(parents=True)
Image.new("L", (4, 4)).save(plain / "cat" / "0.png")

def in_class(file):
    "The folder of two classes, the one of them with this file."
    folder = file.with_suffix("")
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(folder / name / "0.png")
    file.rename(folder / "dog" / "1.png")
    return folder

def given_json(file):
    if read_json(file) is not None:
        raise AssertionError("was read")

out = root / "out"
special, files = hostile.SPECIAL, tuple(kind for kind in hostile.SPECIAL if kind != hostile.folder)
cases = [
    (lambda file: image_folder(str(in_class(file)), "all").read(2), special + hostile.IMAGES, ".png"),
    (lambda file: import_images(in_class(file), out), files + hostile.IMAGES, ".png"),
    (lambda file: import_images(plain, out, table=str(file)), special + (*hostile.TABLES, hostile.many_lines), ".csv"),
    (lambda file: import_images(file, out), files + hostile.ZIPS, ".zip"),
    (lambda file: read_class_list(str(file)), special + hostile.TEXTS[1:], ".txt"),
    (lambda file: prompts.read(["cat"], captions_file=str(file)), special + hostile.JSONS, ".json"),
    (lambda file: prompts.read(["cat"], templates_file=str(file)), special + hostile.TEXTS[:2], ".txt"),
    (lambda file: read_rows([file]), special + hostile.TABLES, ".csv"),
    (lambda file: medmnist("train", str(file)), special + hostile.NPZ, ".npz"),
    (lambda file: read_arrays(file), special + hostile.NPZ[2:], ".npz"),
    (lambda file: read_arrays(file), special[:-1] + (hostile.web_page, hostile.empty), ".safetensors"),
    (read_idx, special + hostile.IDX, ".gz"),
    (given_json, special + hostile.JSONS, ".json"),
    (content_digest, special[:3], ""),
]
given = [(read, file) for n, (read, kinds, suffix) in enumerate(cases)
         for file in hostile.made(kinds, root / str(n), suffix)]
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + room, size + room))
for read, file in given:
    faulthandler.dump_traceback_later(60, exit=True)  # of a reader that hangs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read(file)
        print("READ", file)
    except ValueError as error:
        named = any(name in str(error) for name in (file.name, "1.png", "Got a table"))
        if not named or len(str(error)) > 1_000 or "object at 0x" in str(error):
            print("UNNAMED", file, str(error)[:500])
    except BaseException as error:
        print("FAILED", file, type(error).__name__, error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if grown > 200_000:
        print("LARGE", file, grown)

# Large images that are none of a bomb: one at a time is decoded, and none is drawn at its own size.
side = 9_000
large = hostile.png(root / "large.png", side, rows=bytes(side * (side + 1)))
for i in range(12):
    for name in ("cat", "dog"):
        (root / "large" / name).mkdir(parents=True, exist_ok=True)
        (root / "large" / name / f"{i}.png").symlink_to(large)
faulthandler.dump_traceback_later(100, exit=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source = image_folder(str(root / "large"), "all")
print(contact_sheet(source, per_class=4).size == (4 * (256 + 32) - 32, 2 * (256 + 32) - 32))
files = Labelled(source.records.members.names[:8], (0,) * 8, ("a",))
print(readable_source(source.records.members, files, "x", AS_IT_IS)[0].shape)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown < 400_000 or grown)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's account of memory")
def test_every_reader_refuses_every_hostile_file_and_shows_large_images_in_a_gibibyte(tmp_path):
    path = os.pathsep.join([str(Path(hostile.__file__).parent), *filter(None, sys.path)])
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(1 << 30)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert out.stdout == "True\n(9000, 9000, 1)\nTrue\n" and out.returncode == 0, out.stdout + out.stderr[-3000:]
