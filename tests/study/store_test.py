"""Content-addressed stages: a name covers everything a result depends on, and nothing else."""

import copy
import json

import numpy as np
import pytest

from jaxmoust.config import merge, read_config
from jaxmoust.data.synthetic.store import SyntheticSpec, finish, missing_shards, write_shard
from jaxmoust.jobs import study
from jaxmoust.jobs.parts.configure import configuration
from jaxmoust.jobs.parts.registry import schema_of
from jaxmoust.runtime.folder import identity
from jaxmoust.study.engines.loop import compute_all
from jaxmoust.study.expand import expand
from jaxmoust.study.store import BrokenResult, Stage, Store, in_order

ROOT_CONFIGS = ["generator/digits_edm", "sample/edm", "classifier/digits_resnet"]


@pytest.fixture(autouse=True)
def in_the_repository(request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)


def changed(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return value + "x" if isinstance(value, str) else (*(value or ()), 1)


def leaves(config, path=()):
    for key, value in config.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def with_leaf(config, path, value):
    config = copy.deepcopy(config)
    node = config
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return config


def reordered(value):
    """The same dicts, their keys the other way round."""
    return {k: reordered(value[k]) for k in reversed(value)} if isinstance(value, dict) else value


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ROOT_CONFIGS)
def test_name_depends_on_every_field(path):
    config = configuration(f"configs/{path}.py", [])[1]
    stage = Stage("any", config)
    names = {Stage("any", with_leaf(config, leaf, changed(value))).name for leaf, value in leaves(config)}
    assert stage.name not in names
    assert len(names) == len(list(leaves(config)))


@pytest.mark.parametrize("path", ROOT_CONFIGS)
def test_name_does_not_depend_on_the_order_of_fields(path):
    config = configuration(f"configs/{path}.py", [])[1]
    assert Stage("any", reordered(config)).name == Stage("any", config).name


def test_name_begins_with_the_kind_and_depends_on_it():
    fit, train = Stage("fit", {"a": 1}), Stage("train", {"a": 1})
    assert fit.name.startswith("fit-") and train.name.startswith("train-")
    assert fit.name.partition("-")[2] != train.name.partition("-")[2]


def test_name_is_the_same_in_every_process_and_release():
    """A golden: should it change, every store becomes worthless, which FORMAT exists to say."""
    assert Stage("fit", {"b": (1, 2.0), "a": {"c": "x"}}).name == "fit-24a50fffa40affba"


def test_name_tells_a_lists_order():
    assert Stage("train", {"sets": ("a", "b")}).name != Stage("train", {"sets": ("b", "a")}).name


# --- order -----------------------------------------------------------------------------------------------------------


def test_in_order_gives_every_stage_once_after_what_it_needs():
    fit = Stage("fit", {})
    sets = [Stage("sample", {"seed": seed}, (fit,)) for seed in (0, 1)]
    trains = [Stage("train", {"seed": seed}, (made,)) for seed, made in enumerate(sets)]
    again = Stage("train", {"seed": 9}, (Stage("sample", {"seed": 0}, (Stage("fit", {}),)),))
    names = [stage.name for stage in in_order([*trains, again, *trains])]
    assert names == [s.name for s in (fit, sets[0], trains[0], sets[1], trains[1], again)]


# --- the store -------------------------------------------------------------------------------------------------------


class Counting:
    """Computes nothing: leaves a result and counts what it was asked for."""

    def __init__(self, path):
        self.store, self.done = Store(path, self), []

    def __call__(self, stage, workdir):
        self.done.append(stage.kind)
        for need in stage.needs:
            assert (self.store.folder(need) / "result.json").is_file(), "a stage came before what it needs"
        workdir.mkdir(parents=True)
        (workdir / "result.json").write_text(json.dumps({"kind": stage.kind}))
        return {"kind": stage.kind}

    def conduct(self, *changes, **top):
        """Computes what the quick study, with changes, does not find; returns how many of each kind."""
        config = read_config("experiments/quickstart.py:quick") | {"domains": {}, "measures": {}} | top
        for change in changes:
            config = merge(config, change, {})
        complete = study.complete(config, {})
        experiment = expand(complete, schema_of, lambda job: identity(job, {}, ()))
        self.done = []
        for _ in compute_all([stage for stage in experiment.stages if not self.store.has(stage)], self.store):
            pass
        return {kind: self.done.count(kind) for kind in ("fit", "sample", "train")}


@pytest.fixture
def counting(tmp_path):
    return Counting(tmp_path / "stages")


def test_store_finds_a_stage_once_its_result_is_there(counting):
    store, stage = counting.store, Stage("fit", {"a": 1})
    assert store.find(stage) is None
    assert store.compute(stage) == {"kind": "fit"} == store.find(stage)
    assert store.folder(stage) == store.folder(stage.name) == store.path / stage.name
    assert store.find(Stage("fit", {"a": 2})) is None


def test_store_does_not_take_an_unfinished_folder_for_a_result(counting):
    store, stage = counting.store, Stage("fit", {"a": 1})
    store.folder(stage).mkdir(parents=True)
    (store.folder(stage) / "config.json").write_text("{}")
    assert store.find(stage) is None


def test_store_computes_only_what_a_change_touches(counting):
    """The quickstart: four generators, five sets and twelve arms at three seeds."""
    everything = {"fit": 4, "sample": 15, "train": 36}
    assert counting.conduct() == everything
    assert counting.conduct() == {"fit": 0, "sample": 0, "train": 0}
    arm_only = {"name": "another", "question": "?", "baseline": "edm_mixed", "seeds": (2, 0, 1)}
    assert counting.conduct(**arm_only) == {"fit": 0, "sample": 0, "train": 0}
    assert counting.conduct(seeds=(0, 1, 2, 3)) == {"fit": 0, "sample": 5, "train": 12}
    assert counting.conduct({"data": {"base_seed": 1}}) == everything


def arms_of(change):
    """The arms of the quick study, each changed."""
    return tuple(change(arm) for arm in read_config("experiments/quickstart.py:quick")["arms"])


def test_store_computes_again_only_the_trains_of_another_learning_rate(counting):
    counting.conduct()
    faster = arms_of(lambda arm: {**arm, "optim": {"learning_rate": 1e-3}})
    assert counting.conduct(arms=faster) == {"fit": 0, "sample": 0, "train": 36}


def test_store_computes_again_only_what_uses_a_set_of_another_size(counting):
    """Two of the arms use the EDM's set."""
    counting.conduct()
    more = {"sets": {"edm": {"num_images": 60}}}
    assert counting.conduct(more) == {"fit": 0, "sample": 3, "train": 6}


def test_store_computes_again_all_that_stands_on_another_generator(counting):
    counting.conduct()
    longer = {"generators": {"ddpm": {"train": {"num_steps": 30}}}}
    assert counting.conduct(longer) == {"fit": 1, "sample": 3, "train": 3}


def test_store_computes_again_only_the_arm_whose_sampler_changed(counting):
    counting.conduct()
    other = {"name": "share", "shares": {"real": 0.75, "edm": 0.25}}
    arms = arms_of(lambda arm: {**arm, "sampler": other} if arm["name"] == "edm_mixed" else arm)
    assert counting.conduct(arms=arms) == {"fit": 0, "sample": 0, "train": 3}


def test_store_computes_nothing_again_for_other_words(counting):
    """Titles, descriptions and the question are of the page; no result depends on them."""
    counting.conduct()
    arms = arms_of(lambda arm: {**arm, "title": "Another", "description": "Said otherwise."})
    assert counting.conduct(arms=arms, question="?") == {"fit": 0, "sample": 0, "train": 0}


# --- damage and failures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{}", "[]", "3"])
def test_store_refuses_a_result_that_is_none(counting, text):
    stage = Stage("fit", {"a": 1})
    counting.store.compute(stage)
    (counting.store.folder(stage) / "result.json").write_text(text)
    with pytest.raises(BrokenResult, match=r"is no result.*remove the folder and run again"):
        Store(counting.store.path, counting).find(stage)


def test_store_keeps_the_record_of_a_failure_until_the_stage_is_computed(counting):
    store, stage = counting.store, Stage("fit", {"a": 1})
    store.fail(stage, MemoryError())
    (record,) = store.path.glob("*.error.json")
    assert record.name == f"{stage.name}.error.json"
    assert json.loads(record.read_text())["error"] == "MemoryError" and not store.has(stage)
    store.compute(stage)
    assert not record.exists() and store.has(stage)


def test_store_that_is_no_folder_or_may_not_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is no folder"):
        Store(tmp_path / "file" / "stages", run=None).check_folder()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    Store(tmp_path / "stages", run=None).check_folder()  # to read it is enough where nothing is to compute
    with pytest.raises(ValueError, match="may not be written"):
        Store(tmp_path / "stages", run=None).check_folder(writable=True)


@pytest.mark.parametrize("name", ["dataset_info.json", "label.labels.txt", "spec.json", "s-train.array_record-*"])
def test_a_set_of_which_any_file_is_damaged_is_computed_again_and_mended(tmp_path, name):
    spec = SyntheticSpec("s", ("a", "b"), (2, 2, 1), 4, 4, 0, "generator")
    computed = []

    def sample(stage, folder):
        computed.append(stage.name)
        for shard in missing_shards(folder, spec):
            write_shard(folder, spec, shard, np.zeros((4, 2, 2, 1), np.uint8))
        finish(folder, spec)
        (folder / "result.json").write_text('{"n": 4}')
        return {"n": 4}

    stage = Stage("sample", {"task": "sample"})
    Store(tmp_path, sample).compute(stage)
    (file,) = Store(tmp_path, sample).folder(stage).glob(name)
    whole = file.read_bytes()
    assert Store(tmp_path, sample).find(stage) == {"n": 4}
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert Store(tmp_path, sample).find(stage) is None
    Store(tmp_path, sample).compute(stage)
    assert file.read_bytes() == whole and Store(tmp_path, sample).find(stage) == {"n": 4} and len(computed) == 2
