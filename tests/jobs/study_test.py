"""What a study knows of what it did not make: images, weights, and what other processes leave in its store."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_refused, contents
from PIL import Image

from jaxmoust.config import read_config
from jaxmoust.jobs.parts.inputs import content_digest
from jaxmoust.jobs.parts.job import open_alone
from jaxmoust.jobs.parts.registry import BadInput
from jaxmoust.jobs.study import Study, complete
from jaxmoust.runtime.folder import RunFolder

# --- the content of files and folders --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights" / "unet").mkdir(parents=True)
    (tmp_path / "weights" / "model_index.json").write_text("{}")
    (tmp_path / "weights" / "unet" / "model.safetensors").write_bytes(b"one")
    return tmp_path / "weights"


def test_content_digest_is_of_what_lies_in_a_folder_wherever_that_is(folder):
    before = content_digest(folder)
    assert before == content_digest(Path(shutil.copytree(folder, folder.with_name("elsewhere")))) != ""
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("a process")
    assert content_digest(folder) == before
    (folder / "unet" / "model.safetensors").write_bytes(b"two")
    assert content_digest(folder) != before


def test_content_digest_counts_what_a_file_is_called_in_its_folder_but_not_alone(folder):
    file = folder / "unet" / "model.safetensors"
    inside, alone = content_digest(folder), content_digest(file)
    other = file.rename(file.with_name("other.safetensors"))
    assert content_digest(folder) != inside and content_digest(other) == alone


def test_content_digest_of_a_name_of_the_hub_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert content_digest(Path("stable-diffusion-v1-5/stable-diffusion-v1-5")) == content_digest(Path("tiny_sd")) == ""


# --- the images of a study -------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    """A folder of two classes, eight images of each in train/ and four in test/, all different."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 8), ("test", 4)):
        for name in ("cat", "owl"):
            path = tmp_path / "images" / split / name
            path.mkdir(parents=True)
            for i in range(n):
                Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path / f"{i}.png")
    return tmp_path / "images"


@pytest.fixture
def study(images, tmp_path, monkeypatch, request):
    """Lays out a study of an internal generator on the images, as they lie there now, or elsewhere."""
    monkeypatch.chdir(request.config.rootpath)

    def lay_out(path=images, **data):
        raw = read_config("experiments/quickstart.py:quick") | {"domains": {}, "measures": {}, "seeds": (0,)}
        raw["data"] = {"source": "folder", "path": str(path), "image_px": 8, "channels": 1}
        raw["generators"], raw["sets"] = ({"edm": raw[table]["edm"]} for table in ("generators", "sets"))
        raw["arms"] = tuple(arm for arm in raw["arms"] if arm["name"] in ("real", "edm_mixed"))
        return Study(complete(raw, {"data": data, "classifier": {"data": data}} if data else {}), tmp_path / "stages")

    return lay_out


def names(study):
    return {stage.name for stage in study.experiment.stages}


def kinds(stages):
    return sorted(name.partition("-")[0] for name in stages)


def test_study_of_moved_or_linked_images_has_the_same_stages_and_the_same_folder(study, images, tmp_path):
    before = study()
    with open_alone(tmp_path / "study", before.config, before.contents, before._places, before.machine):
        pass
    (tmp_path / "link").symlink_to(images)
    moved = Path(shutil.copytree(images, tmp_path / "moved"))
    for path in (tmp_path / "link", moved):
        again = study(path)
        assert names(again) == names(before)
        again.check(tmp_path / "study")
    assert RunFolder.check(tmp_path / "study", again.config, again.contents, again._places)


@pytest.mark.parametrize("change", ["changed", "swapped", "removed", "added"])
def test_other_test_images_make_other_classifiers_and_leave_the_generator(study, images, change, tmp_path):
    before = study()
    test = images / "test"
    if change == "changed":
        Image.new("L", (8, 8)).save(test / "cat" / "0.png")
    elif change == "swapped":
        (test / "cat" / "0.png").rename(tmp_path / "0.png")
        (test / "owl" / "0.png").rename(test / "cat" / "0.png")
        (tmp_path / "0.png").rename(test / "owl" / "0.png")
    elif change == "removed":
        (test / "owl" / "3.png").unlink()
    else:
        Image.new("L", (8, 8)).save(test / "cat" / "9.png")
    after = study()
    assert kinds(names(after) - names(before)) == ["train", "train"]
    assert kinds(names(after) & names(before)) == ["fit", "sample"]


def test_other_base_images_make_other_stages_all_through(study, images, tmp_path):
    before = study()
    with open_alone(tmp_path / "study", before.config, before.contents, before._places, before.machine):
        pass
    Image.new("L", (8, 8)).save(images / "train" / "cat" / "0.png")
    after = study()
    assert not names(after) & names(before)
    with pytest.raises(BadInput, match=r"data\.base: folder has"):
        after.check(tmp_path / "study")


def test_place_where_decoded_images_are_held_makes_no_other_stages(study, tmp_path):
    raw = study()
    config = {**raw.config, "classifier": {**raw.config["classifier"]}}
    config["classifier"]["data"] = {**config["classifier"]["data"], "decoded": "map", "map_dir": str(tmp_path / "maps")}
    assert names(Study(config, tmp_path / "stages")) == names(raw)


def test_study_in_the_folder_of_another_experiment_is_refused_with_the_difference(study, tmp_path):
    before = study()
    with open_alone(tmp_path / "study", before.config, before.contents, before._places, before.machine):
        pass
    other = Study({**before.config, "question": "Another?"}, tmp_path / "stages")
    with pytest.raises(BadInput, match=r'question: folder has .*given "Another\?"'):
        other.check(tmp_path / "study")


def test_stage_that_another_process_computed_counts_wherever_it_stands_in_the_graph(study, tmp_path):
    """A score may open the sets that its classifier learnt from, which are no need of its own."""
    laid_out = study()
    laid_out.check(tmp_path / "study")
    train = next(run.stage for run in laid_out.experiment.runs if run.arm.name == "edm_mixed")
    (sampled,) = train.needs
    after = type(train)("score", {"task": "score"}, (train,))
    assert {train.name, sampled.name} <= set(laid_out.inputs.planned)
    with pytest.raises(KeyError):  # a configuration without its fields
        laid_out._compute(after, tmp_path / "x")
    assert not {train.name, sampled.name, sampled.needs[0].name} & set(laid_out.inputs.planned)


def lay_out_seeds(seeds, tmp_path):
    raw = read_config("experiments/quickstart.py:quick") | {"seeds": seeds}
    return Study(complete(raw, {}), tmp_path / "stages")


def test_stages_that_differ_by_seed_alone_are_checked_once(tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    checked = []
    for seeds in ((0,), (0, 1, 2)):
        study = lay_out_seeds(seeds, tmp_path)
        study.check(tmp_path / "run")
        checked.append(len(study.inputs.planned))
    assert checked[1] == checked[0] < len(study.experiment.stages) / 2
    # One that was not is checked with all that it stands on, when it is asked for.
    last = study.experiment.runs[-1].stage
    assert last.needs and last.name not in study.inputs.planned
    job = study._plan(last)
    assert {last.name, *(need.name for need in last.needs)} <= study.inputs.planned.keys()
    assert [one.digest for one in job.pool.sources[1:]] == [need.name for need in last.needs if need.kind == "sample"]


def test_a_seed_that_fits_no_device_is_refused_wherever_it_stands(tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    with pytest.raises(BadInput, match=f"seed {2**32}"):
        lay_out_seeds((0, 2**32), tmp_path).check(tmp_path / "run")


def test_folder_in_use_is_refused_and_that_of_a_killed_process_is_not(study, tmp_path):
    laid_out = study()
    given = (tmp_path / "study", laid_out.config, laid_out.contents, laid_out._places, laid_out.machine)
    with open_alone(*given):
        before = sorted(tmp_path.rglob("study/*"))
        with pytest.raises(BadInput, match="is in use by process"), open_alone(*given):
            pass
        assert sorted(tmp_path.rglob("study/*")) == before
    (tmp_path / "study" / ".lock").write_text("process 1 on a machine that lost its power\n")
    with open_alone(*given) as folder:
        assert folder.path == tmp_path / "study"


def test_study_that_decides_on_what_its_runs_do_not_keep_is_refused(tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    changes = {"seeds": (0,), "decide": {"metric": "auroc"}}
    config = complete(read_config("experiments/quickstart.py:quick"), changes)
    with pytest.raises(BadInput, match=r"decide.metric 'auroc' .* classifier.eval.keep='probabilities'"):
        Study(config, tmp_path / "store").check(tmp_path / "work")
    keeping = complete(config, {"classifier": {"eval": {"keep": "probabilities"}}})
    Study(keeping, tmp_path / "store").check(tmp_path / "work")
    assert not list(tmp_path.iterdir())


def test_config_of_a_study_is_refused_for_a_score_before_the_first_stage_runs(cli, tmp_path):
    """Or it would be refused after a generator, its sets and the judging classifiers are done."""
    experiment = tmp_path / "experiment.py"
    for change, words in (
        ('["scores"]["confidence"]["config"] = "configs/score/classifier.py:bogus"', [".score is 'bogus'"]),
        ('["scores"]["confidence"]["eval"] = {"batch_size": 0}', ["eval.batch_size"]),
        ('["scores"]["confidence"]["config"] = "configs/score/classifier.py:margin"', ["a weight of -", "scores"]),
        ('["scores"]["confidence"]["arm"] = "random"', ["was itself trained on", "--config.folds=2"]),
    ):
        experiment.write_text(f"""import ml_collections
from jaxmoust.config import read_config

def get_config(arg=""):
    config = read_config("experiments/sampling_strategy.py:quick")
    config{change}
    return ml_collections.ConfigDict(config)
""")
        assert_refused(cli("study --config={path} --workdir={work}", path=experiment, work=tmp_path / "work"), *words)
        assert contents(tmp_path) == {"experiment.py": experiment.read_bytes()}


@pytest.mark.parametrize(
    "change, words",
    [
        ('["arms"][-1]["augment"] = {"cutout_px": -2}', ["train ", ", seed 0: ", "cutout_px=-2"]),
        ('["arms"][-1]["data"] = {"n_synthetic": 41}', ["n_synthetic 41", "ddpm holds 40"]),
        ('["arms"][-1]["sampler"]["shares"] = {"real": 0.5, "ddpm": 0.6}', ["sum to 1.1"]),
        ('["arms"][-1]["sampler"] = {"name": "weighted", "weights": {"ddpm": "scores"}}', ["data.scores"]),
        ('["sets"]["ddpm"]["sample"] = {"guidance": 2.0}', ["guidance 2.0", "label_dropout"]),
        ('["sets"]["ddpm"]["num_images"] = 0', ["num_images=0"]),
        ('["generators"]["ddpm"]["optim"] = {"name": "bogus"}', ["'bogus'", "adamw"]),
        ('["generators"]["ddpm"]["config"] = "configs/sample/edm.py"', ["'sample'", "'diffuse'"]),
    ],
)
def test_config_of_a_study_is_refused_for_its_last_stage_before_the_first_runs(cli, tmp_path, change, words):
    """Nothing else would say so until every stage before it is done."""
    experiment = tmp_path / "experiment.py"
    experiment.write_text(f"""import ml_collections
from jaxmoust.config import read_config

def get_config(arg=""):
    config = read_config("experiments/my_images.py:quick")
    config{change}
    return ml_collections.ConfigDict(config)
""")
    outcome = cli("study --config={e} --workdir={w}", e=experiment, w=tmp_path / "work" / "study")
    assert_refused(outcome, *words)
    assert set(contents(tmp_path)) == {"experiment.py"}


@pytest.mark.parametrize("store", ["file", "file/stages", "readonly", "readonly/stages"])
def test_store_that_cannot_be_written_is_refused_before_anything_is_written(cli, tmp_path, monkeypatch, store):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "readonly").mkdir()
    access = os.access  # for a test by a superuser, who may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "readonly" and access(path, mode))
    before = sorted(tmp_path.rglob("*"))
    line = "study --config=experiments/quickstart.py:quick --workdir={tmp}/work --store={tmp}/{store}"
    outcome = cli(line, tmp=tmp_path, store=store)
    assert_refused(outcome, f"cannot write in the store {tmp_path / store}", "--store=DIR")
    assert sorted(tmp_path.rglob("*")) == before
