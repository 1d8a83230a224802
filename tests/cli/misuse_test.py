"""What people do wrong with every verb, a line each: exit code 2, a sentence that says what to do, nothing written."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmoust.cli import call
from jaxmoust.config import read_config, typed
from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.jobs.parts.inputs import _WITHOUT_DATA
from jaxmoust.jobs.parts.registry import entries, job_of

ROOT = Path(__file__).parents[2]
RESNET = "--config=configs/classifier/digits_resnet.py:quick"
EDM = "--config=configs/generator/digits_edm.py:quick"
OWN = "--config.data.source=folder --config.data.path={here}/images --config.data.n_base=0"
SD = "sample --config=configs/sample/tiny_sd.py:quick"
STUDY = "study --config=experiments/quickstart.py:quick"

# Files of a user's making, each with a mistake in it.
FILES = {
    "bug.py": "def get_config(arg=''):\n    return {'task': 'classify', 'x': 1 / 0}\n",
    "imports.py": "import nowhere_at_all\n\n\ndef get_config(arg=''):\n    return {}\n",
    "without_arg.py": "def get_config():\n    return {}\n",
    "none.py": "def get_config(arg=''):\n    return None\n",
    "exits.py": "import sys\n\n\ndef get_config(arg=''):\n    sys.exit(3)\n",
    "endless.py": "def get_config(arg=''):\n    return get_config(arg)\n",
    "no_text.py": b"\xff\xfe\x00def",
    "number.py": "get_config = 3\n",
    "no_task.py": "def get_config(arg=''):\n    return {'seed': 0}\n",
    "task_list.py": "def get_config(arg=''):\n    return {'task': ['classify']}\n",
    "numbers_for_names.py": "def get_config(arg=''):\n    return {'task': 'classify', 3: 4}\n",
    "helper_bug.py": "import helper\n\n\ndef get_config(arg=''):\n    return helper.make()\n",
    "helper.py": "def make():\n    return {}['n_base']\n",
    "a.txt": "x\n",
    "empty.csv": "",
    "head.csv": "arm,seed,n_base,n_synthetic,top1\n",
    "utf16.csv": "arm,seed\nreal,0\n".encode("utf-16"),
    "results.xlsx": b"PK\x03\x04\x14\x00" + bytes(range(256)),
    "model.pth": b"\x80\x04.",
    "edm.pkl": b"\x80\x04N.",
}


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A folder of images of two classes, one of one class, a synthetic set, a classifier, and files with mistakes."""
    folder = tmp_path_factory.mktemp("misuse")
    rng = np.random.default_rng(0)
    for name, classes in (("images", "ab"), ("alone", "a")):
        for label in classes:
            (folder / name / label).mkdir(parents=True)
            for i in range(10):
                Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(folder / name / label / f"{i}.png")
    for name, content in FILES.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    np.savez(folder / "edm2.npz", **{"unet.emb_fourier.freqs": np.zeros(4, np.float32)})
    assert call(["data", "import", f"--path={folder}/images", f"--workdir={folder}/set"]) == 0
    config = read_config(str(ROOT / "configs/classifier/digits_resnet.py:quick"))
    (folder / "clf").mkdir()  # what another job may refer to, and fails to find a network in
    (folder / "clf" / "config.json").write_text(json.dumps(config, default=list))
    (folder / "clf" / "result.json").write_text(json.dumps({"class_names": ["a", "b"], "n_synthetic": 0}))
    return folder


def state(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if "__pycache__" not in str(path)}


LINES = [
    (f"train {RESNET} --workdir=hdfs://bucket/run", "--workdir is hdfs://bucket/run: hdfs:// is not read or written"),
    (f"{STUDY} --store=ftp://bucket/x", "--store is ftp://bucket/x"),
    (f"{STUDY} --workdir={{work}} --scratch=gs://bucket/x", "--scratch is gs://bucket/x"),
    (f"{STUDY} --workdir={{work}} --engine=ray --resources=gs://b/r.toml", "--resources is gs://b/r.toml"),
    (f"train {RESNET} --workdir={{work}} --config.data.map_dir=gs://b/maps", "config.data.map_dir is gs://b/maps"),
    (f"{STUDY} --workdir={{work}} --config.classifier.data.map_dir=gs://b/m", "config.data.map_dir is gs://b/m"),
    (f"fit {EDM} --workdir={{work}} --config.latents.keep=gs://b/x", "config.latents.keep is gs://b/x"),
    ("data import --path=https://host/x.zip", "--path is https://host/x.zip"),
    ("sample --config=configs/sample/edm.py:quick --config.generator=hdfs://b/g", "--config.generator is hdfs://b/g"),
    # words
    ("data", "data import, data inspect"),
    ("data --bogus", "data import, data inspect"),
    ("data inspekt", "Did you mean 'data inspect'?"),
    ("trian", "Did you mean 'train'?"),
    (f"train {RESNET} --workdr={{work}}", "did you mean --workdir?"),
    (f"train {RESNET} --workdir={{work}} -v", "fields are set by --config.field=value"),
    (f"train {RESNET} --workdir={{work}} --num_processes=two", "'two'"),
    (f"train {RESNET}", "--workdir is missing"),
    ("train --config= --workdir={work}", "--config is missing"),
    ("config", "--config is missing"),
    ("config --config=configs/evaluate.py --workdir=x", "Unexpected '--workdir=x'"),
    ("equivalence --reslts={here}/head.csv", "did you mean --results?"),
    ("equivalence --results", "--results: expected one argument"),
    ("study --index={here}/nowhere", "holds no study"),
    # configuration files
    ("train --config={here} --workdir={work}", "No configuration file"),
    ("train --config=configs/classifier/digits_resnt.py --workdir={work}", "Did you mean 'configs/classifier/digits_r"),
    ("train --config={here}/a.txt --workdir={work}", "is no Python file"),
    ("train --config={here}/bug.py --workdir={work}", "bug.py, line 2: return {{'task': 'classify', 'x': 1 / 0}}"),
    ("config --config={here}/bug.py", "ZeroDivisionError: division by zero"),
    ("study --config={here}/bug.py --workdir={work}", "bug.py, line 2: "),
    (f"{STUDY} --workdir={{work}} --config.classifier={{here}}/bug.py", "bug.py, line 2: "),
    (f"{STUDY} --workdir={{work}} --config.generators.edm={{here}}/bug.py", "bug.py, line 2: "),
    ("train --config={here}/helper_bug.py --workdir={work}", "helper.py, line 2: return {{}}['n_base']"),
    ("train --config={here}/imports.py --workdir={work}", "imports.py, line 1: import nowhere_at_all"),
    ("train --config={here}/without_arg.py --workdir={work}", "takes 0 positional arguments"),
    ("train --config={here}/none.py --workdir={work}", "get_config returns None"),
    ("train --config={here}/exits.py --workdir={work}", "exits.py, line 5: sys.exit(3)"),
    ("train --config={here}/endless.py --workdir={work}", "RecursionError"),
    ("train --config={here}/no_text.py --workdir={work}", "no_text.py"),
    ("train --config={here}/number.py --workdir={work}", "'int' object is not callable"),
    ("train --config={here}/no_task.py --workdir={work}", "task None"),
    ("train --config={here}/task_list.py --workdir={work}", "task ('classify',)"),
    ("train --config={here}/numbers_for_names.py --workdir={work}", "has no field 3"),
    (f"train {RESNET},qiuck --workdir={{work}}", "Did you mean 'quick'?"),
    (f"{STUDY},bogus --workdir={{work}}", "expected quick"),
    # fields
    (f"train {RESNET} --workdir={{work}} --config.seed=", "config.seed is empty, expected a whole number"),
    (f"train {RESNET} --workdir={{work}} --config.seed", "gives no value"),
    (f"train {RESNET} --workdir={{work}} --config.=3", "gives no value"),
    (f"train {RESNET} --workdir={{work}} --config.model=resnet", "it has fields: set config.model.FIELD"),
    (f"train {RESNET} --workdir={{work}} --config.model.name=resnt", "Did you mean 'resnet'?"),
    (f"train {RESNET} --workdir={{work}} --config.optim.lerning_rate=1", "Did you mean 'learning_rate'?"),
    (f"train {RESNET} --workdir={{work}} --config.model.stem=imagnet", "did you mean 'imagenet'?"),
    (f"train {RESNET} --workdir={{work}} --config.model.width=0", "config.model allows no network"),
    (f"train {RESNET} --workdir={{work}} --config.model.width=-8", "config.model allows no network"),
    (f"train {RESNET} --workdir={{work}} --config.model.stage_sizes=a,b", "a list by commas, each a whole number"),
    (f"train {RESNET} --workdir={{work}} --config.data.image_px=-5", "image_px -5"),
    # counts that no memory holds
    (f"train {RESNET} --workdir={{work}} --config.data.copies=100000000000000", "cannot hold"),
    (f"train {RESNET} --workdir={{work}} --config.data.copies=10000000", "expected up to 1,000,000"),
    (f"train {RESNET} --workdir={{work}} --config.data.image_px=1000000", "a size up to 16,384"),
    (f"train {RESNET} --workdir={{work}} --config.model.width=1000000", "state, of config.model, takes 201,166"),
    (f"train {RESNET} --workdir={{work}} --config.model.stage_sizes=100000,", "up to 1,000 in all"),
    (f"train {RESNET} --workdir={{work}} --config.augment.crop_px=1000000000", "A step, of config.model, config.augm"),
    (f"train {RESNET} --workdir={{work}} --config.method.logit_adjustment=1 --config.model.width=1000000", "201,166"),
    (f"train {RESNET} --workdir={{work}} --config.augment.randaugment_ops=100000", "num_ops <= 100"),
    (f"train {RESNET} --workdir={{work}} --config.train.batch_size=1000000000000", "A batch of train.batch_size 1,000"),
    (f"train {RESNET} --workdir={{work}} --config.eval.batch_size=1000000000000", "A batch of eval.batch_size 1,000"),
    (f"fit {EDM} --workdir={{work}} --config.model.num_blocks=100000", "up to 1,000 in all"),
    (f"fit {EDM} --workdir={{work}} --config.model.num_blocks=999", "up to 1,000 in all"),  # in each of two levels
    (f"train {RESNET} --workdir={{work}} --config.train.num_steps=99999999999999", "whole numbers from 1 to 2^31 - 1"),
    (f"train {RESNET} --workdir={{work}} --config.train.batch_size=0", "batch_size 0"),
    (f"train {RESNET} --workdir={{work}} --config.optim.learning_rate=nan", "learning_rate is nan"),
    (f"train {RESNET} --workdir={{work}} --config.sampler.name=share", "config.sampler.shares is missing"),
    (f"train {RESNET} --workdir={{work}} --config.sampler.name=shares", "Did you mean 'share'?"),
    (f"train {RESNET} --workdir={{work}} --config.sampler.name=share --config.sampler.shares=real", "pairs, such as"),
    (f"{STUDY} --workdir={{work}} --config.seeds[0]=7", "Give all of them: --config.seeds=A,B,C"),
    (f"{STUDY} --workdir={{work}} --config.seeds=a", "each a whole number"),
    (f"{STUDY} --workdir={{work}} --config.seeds=", "give at least one"),
    (f"{STUDY} --workdir={{work}} --config.arms=3", "arms differ in the file"),
    (f"{STUDY} --workdir={{work}} --config.generators=3", "config.generators.NAME.FIELD"),
    (f"{STUDY} --workdir={{work}} --config.generators.edn.seed=3", "Did you mean 'edm'?"),
    (f"{STUDY} --workdir={{work}} --config.classifier.seed=3", "would do nothing"),
    (f"{STUDY} --workdir={{work}} --config.classifier.data.synthetic=runs/a,runs/b", "('runs/a', 'runs/b')"),
    # processes
    (f"train {RESNET} --workdir={{work}} --coordinator=localhost", "give HOST:PORT"),
    (f"train {RESNET} --workdir={{work}} --coordinator=h:1x --num_processes=2 --process_id=0", "give HOST:PORT"),
    (f"train {RESNET} --workdir={{work}} --coordinator=h:99999 --num_processes=2 --process_id=0", "give HOST:PORT"),
    (f"train {RESNET} --workdir={{work}} --coordinator=h:1234 --num_processes=2 --process_id=2", "process_id 2"),
    # data
    ("data export --path={here}/images --workdir={work}", "finished synthetic set"),
    ("data export --path={here}/set --workdir={here}/images", "not empty"),
    ("data export --path={here}/set", "Give --workdir=DIR"),
    ("data export --path={here}/set --workdir={work} --format=zip", "invalid choice: 'zip'"),
    ("predict --path={here}/images", "Give --checkpoint=DIR"),
    ("predict --checkpoint={here}/images --path={here}/images --output={work}", "holds no finished 'classify' run"),
    ("predict --checkpoint={here}/clf --path={here}/images --top=3 --output={work}", "--top=3: expected 1 to 2"),
    ("predict --checkpoint={here}/clf --path={here}/none --output={work}", "none"),
    ("export --checkpoint={here}/clf", "--workdir=DIR"),
    ("export --checkpoint={here}/set --workdir={work}", "holds no finished 'classify' run"),
    ("sample --config=configs/sample/imported.py --workdir={work}", "config.path is empty"),
    ("sample --config=configs/sample/imported.py --workdir={work} --config.path={here}/images", "'a', 'b'"),
    ("data inspect --path={here}/images", "--source=folder"),
    ("data inspect {here}/images", "such as --path=DIR"),
    ("data inspect --source=folder", "Give the folder of images"),
    ("data inspect --source=foldr --path={here}/images", "Did you mean 'folder'?"),
    ("data inspect --source=folder --path={here}/a.txt", "an existing folder"),
    ("data inspect --source=digits --split=tset", "Did you mean 'test'?"),
    ("data inspect --source=digits --path={here}", "leave the path out"),
    ("data inspect --source=tfds:nope --path={here}", "prepare it with `jaxmoust data prepare`"),
    ("data inspect --source=medmnist --path={here}/a.txt", "a.txt"),
    ("data inspect --source=digits --picture={here}", "a file to write, such as sheet.png"),
    ("data inspect --source=digits --classes={here}", "class list"),
    ("data import --path={here}/images --workdir={here}/images", "ive another folder"),
    ("data import --path={here}/images --workdir={here}/images/set", "ive another folder"),
    ("data import --path={here}/images --workdir={here}", "holds other files"),
    ("data import --path={here}/images --workdir={here}/a.txt", "a.txt"),
    ("data import --path={here}/images --workdir={here}/set --name=other", "another synthetic set"),
    ("data import --path={here}/nope.zip --workdir={work}", "existing folder or zip archive"),
    ("data import --path={here}/images --workdir={work} --guidance=nan", "guidance=nan"),
    ("data import --path={here}/images --workdir={work} --seed=x", "'x'"),
    ("data import --path={here}/images --workdir={work} --labels={here}/a.txt", "file, label"),
    ("data prepare", "--source=tfds:NAME"),
    ("train --config=configs/classifier/cifar10_resnet18.py:quick --workdir={work}", "without these data: --config.d"),
    ("fit --config=configs/generator/imagenet100_edm.py:quick --workdir={work}", "--config.data.source=digits"),
    ("train --config=configs/classifier/bloodmnist_resnet18.py:quick --workdir={work}", "--config.data.source=digits"),
    # training and evaluation
    (f"train {RESNET} {OWN} --workdir={{here}}/images", "would become one of its classes"),
    (f"train {RESNET} {OWN} --workdir={{here}}/images/run", "would become one of its classes"),
    (f"train {RESNET} {OWN} --workdir={{here}}/set --config.data.synthetic={{here}}/set", "which the run reads"),
    (f"train {RESNET} {OWN.replace('images', 'alone')} --workdir={{work}}", "the class 'a' alone"),
    (f"train {RESNET} --workdir={{work}} --config.data.synthetic={{here}}/set", "Mix sets of the same classes"),
    (f"train {RESNET} --workdir={{work}} --config.method.pretrained={{here}}/nothing", "no such file"),
    (
        f"train {RESNET} --workdir={{work}} --config.method.pretrained={{here}}/a.txt",
        "expected .npz or .safetensors",
    ),
    (f"train {RESNET} --workdir={{work}} --config.method.pretrained={{here}}/model.pth", "FILE.pth NEW.safetensors"),
    (f"train {RESNET} --workdir={{work}} --config.method.pretrained={{here}}/set", "no such file"),
    (f"fit {EDM} {OWN.replace('n_base=0', 'n_base=1')} --workdir={{work}}", "n_base=1, expected 2"),
    ("evaluate --config=configs/evaluate.py --workdir={work}", "config.checkpoint is empty"),
    (
        "evaluate --config=configs/evaluate.py --workdir={work} --config.checkpoint={here}/a.txt",
        "no finished 'classify'",
    ),
    (
        "evaluate --config=configs/evaluate.py --workdir={here}/clf --config.checkpoint={here}/clf",
        "which the run reads",
    ),
    # generators and sets
    ("import --config=configs/import.py --workdir={work}", "config.path is empty"),
    ("import --config=configs/import.py --workdir={work} --config.path=google/ddpm-cifar10-32", "no checkpoint"),
    (
        "import --config=configs/import.py --workdir={work} --config.path={here}/edm.pkl",
        "shows the line that makes one",
    ),
    ("import --config=configs/import.py --workdir={work} --config.path={here}/images", "it holds a, b"),
    ("import --config=configs/import.py --workdir={work} --config.path={here}/edm2.npz", "a network of EDM2"),
    ("import --config=configs/import.py --workdir={work} --config.precondition=edn", "Did you mean 'edm'?"),
    ("sample --config=configs/sample/edm.py:quick --workdir={work}", "config.generator is empty"),
    ("sample --config=configs/sample/edm.py:quick --workdir={work} --config.generator={here}/clf", "`jaxmoust fit "),
    (f"{SD} --workdir={{work}} --config.num_images=2147483648", "num_images=2147483648, expected 1 to 100,000,000"),
    (f"{SD} --workdir={{work}} --config.sample.num_steps=1001", "num_steps 1001: expected 1 to 1000"),
    (f"{SD} --workdir={{work}} --config.sample.num_steps=100000000", "whole numbers from 1 to 100,000"),
    ("merge --config=configs/merge.py --workdir={work}", "config.pipeline.path is empty"),
    ("merge --config=configs/merge.py --workdir={work} --config.pipeline.path={here}/images", "model_index.json"),
    (
        "features --config=configs/features.py --workdir={work} --config.data.source=digits --config.data.path=",
        "give the backbone",
    ),
    ("score --config=configs/score/classifier.py --workdir={work}", "config.checkpoint or config.set is empty"),
    (
        "score --config=configs/score/classifier.py --workdir={work} --config.set={here}/images "
        "--config.checkpoint={here}/clf",
        "finished synthetic set",
    ),
    ("domain --config=configs/domain/digits.py:quick --workdir={work}", "config.set is empty"),
    ("domain --config=configs/domain/digits.py:quick --workdir={work} --config.set={here}/set", "same classes"),
    (
        "measure --config=configs/measure/digits.py:quick --workdir={work}",
        "config.extractor.path or config.set is empty",
    ),
    (
        f"measure --config=configs/measure/digits.py:quick {OWN} --config.set={{here}}/set --workdir={{work}} "
        "--config.extractor.num_heads=3 --config.extractor.path={here}/clf",
        "num_heads is of a vit alone",
    ),
    (
        f"measure --config=configs/measure/digits.py:quick {OWN} --config.set={{here}}/set --workdir={{work}} "
        "--config.extractor.path={here}/clf",
        "The heldout images are 4, expected more than 5",
    ),
    # results
    ("equivalence --results={here}/nowhere.csv", "cannot be read"),
    ("equivalence --results={here}/empty.csv", "cannot be read"),
    ("equivalence --results={here}/head.csv", "has no rows"),
    ("equivalence --results={here}/results.xlsx", "save it as CSV, UTF-8"),
    ("equivalence --results={here}/utf16.csv", "save it as CSV, UTF-8"),
    ("equivalence --results={here}/head.csv --n_base=0", "n_base: got 0"),
]


@pytest.mark.parametrize(("line", "words"), LINES, ids=[line.partition(" --config=")[0][:60] for line, _ in LINES])
def test_misuse_is_told_in_a_sentence_and_writes_nothing(cli, here, tmp_path, line, words):
    before = state(here)
    outcome = cli(line, here=here, work=tmp_path / "work")
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("jaxmoust: ") and "Traceback" not in outcome.err, outcome.err
    assert words.replace("{{", "{").replace("}}", "}") in outcome.err, outcome.err
    assert not list(tmp_path.iterdir()) and state(here) == before


def test_every_verb_is_misused():
    first = {" ".join(line.split()[:2]) if line.startswith("data ") else line.split()[0] for line, _ in LINES}
    assert {entry.verb for entry in entries()} <= first


def test_processes_cannot_be_joined_once_jax_is_in_use(cli, tmp_path):
    import jax

    jax.devices()
    for where in ("auto", "localhost:1234 --num_processes=2 --process_id=0"):
        outcome = cli(f"train {RESNET} --workdir={{work}} --coordinator={where}", work=tmp_path / "work")
        assert outcome.code == 2 and "in a fresh Python process" in outcome.err, outcome


NOTEBOOK = """
import importlib, pkgutil, sys
import jax
jax.devices()
import jaxmoust
from jaxmoust import cli
for module in pkgutil.walk_packages(jaxmoust.__path__, "jaxmoust."):
    if module.name not in ("jaxmoust.study.engines.ray", "jaxmoust.study.engines.slurm"):  # of extras
        importlib.import_module(module.name)
cli.run("--help")
cli.run("data", "inspect", "--source=digits")
cli.run("train", "--config=configs/classifier/digits_resnet.py:quick", f"--workdir={sys.argv[1]}",
        "--config.data.n_base=40", "--config.train.num_steps=2", "--config.model.width=4")
print(len(jax.devices()), "device")
"""


def test_a_notebook_that_has_used_jax_runs_verbs_on_its_devices_and_nothing_warns(tmp_path):
    """Without the setting of the tests' devices; in a process of its own, which imports every module anew."""
    env = {"PATH": "", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-W", "error", "-c", NOTEBOOK, str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.endswith("1 device\n"), done.stderr
    assert (tmp_path / "work" / "result.json").exists() and "Warning" not in done.stderr, done.stderr


def test_texts_by_commas_are_several(cli):
    line = f"config {RESNET} --config.data.synthetic={{names}}"
    for names in ("runs/a,runs/b", "\"('runs/a','runs/b')\"", "\"['runs/a', 'runs/b']\""):
        assert "'synthetic': ('runs/a', 'runs/b')," in cli(line, names=names).out
    assert (
        "'targets': ('to_q', 'to_k'),"
        in cli("config --config=configs/generator/digits_tiny_sd_lora.py --config.method.targets=to_q,to_k").out
    )


@pytest.mark.parametrize("verb", ["train", "study", "data import", "import"])
def test_help_lists_every_flag(cli, verb):
    shown = cli(f"{verb} --help").out
    flags = {"data import": ("--labels", "--guidance"), "study": ("--store", "--dry-run", "--index", "--workdir")}
    for flag in flags.get(verb, ("--config", "--workdir", "--coordinator", "--process_id")):
        assert flag in shown


@pytest.mark.parametrize(
    "config",
    [
        *(f"classifier/{name}" for name in ("cifar10_resnet18", "cifar100_wrn", "fashion_vit", "imagenet100_resnet50")),
        *(f"generator/{name}" for name in ("cifar10_edm", "fashion_ddpm", "imagenet100_edm", "bloodmnist_edm")),
    ],
)
def test_quick_variants_of_data_that_are_not_there_run_on_the_digits(config):
    """As the message says; every one checks itself on them."""
    words = _WITHOUT_DATA.partition(": ")[2].rstrip(".").split()
    complete = as_config(read_config(f"configs/{config}.py:quick"), typed(words))
    job_of(complete["task"])(complete).check()


def test_version_is_told(cli):
    from jaxmoust import __version__

    assert cli("--version").out == f"jaxmoust {__version__}\n"
