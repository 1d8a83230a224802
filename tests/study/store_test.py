"""Content-addressed stages: a name covers everything a result depends on, and nothing else."""

import copy
import json

import pytest

from jaxmoust import build
from jaxmoust.study.expand import expand
from jaxmoust.study.store import Stage, Store, compute_all, in_order

ROOT_CONFIGS = ["generator/digits_edm", "sample/edm", "classifier/digits_resnet"]


@pytest.fixture(autouse=True)
def in_the_repository(request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)


def changed(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    return {int: lambda: value + 1, float: lambda: value + 0.5, str: lambda: value + "x"}.get(
        type(value), lambda: (*value, 1)
    )()


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
    config = build.load_config(f"configs/{path}.py")
    stage = Stage("any", config)
    names = {Stage("any", with_leaf(config, leaf, changed(value))).name for leaf, value in leaves(config)}
    assert stage.name not in names
    assert len(names) == len(list(leaves(config)))


@pytest.mark.parametrize("path", ROOT_CONFIGS)
def test_name_does_not_depend_on_the_order_of_fields(path):
    config = build.load_config(f"configs/{path}.py")
    assert Stage("any", reordered(config)).name == Stage("any", config).name


def test_name_begins_with_the_kind_and_depends_on_it():
    fit, train = Stage("fit", {"a": 1}), Stage("train", {"a": 1})
    assert fit.name.startswith("fit-") and train.name.startswith("train-")
    assert fit.name.partition("-")[2] != train.name.partition("-")[2]


def test_name_is_the_same_in_every_process_and_release():
    """A golden: should it change, every store becomes worthless, which FORMAT exists to say."""
    assert Stage("fit", {"b": (1, 2.0), "a": {"c": "x"}}).name == "fit-cc0c97cf8c435dde"


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
        self.path, self.done = path, []

    def __call__(self, kind, config, workdir, resolve):
        self.done.append(kind)
        for reference in config.get("data", {}).get("synthetic", ()):
            assert (resolve(reference) / "result.json").is_file(), "a stage came before what it needs"
        workdir.mkdir(parents=True)
        (workdir / "result.json").write_text(json.dumps({"kind": kind}))
        return {"kind": kind}

    def conduct(self, **changes):
        """Computes what the quick study, with other top-level fields, does not find; returns how many of each kind."""
        config = build.load_config("experiments/quickstart.py:quick") | changes
        experiment = expand(config, build.load_config, build.override, lambda data: f"digest of {data}", str)
        store, self.done = Store(self.path, self), []
        for _ in compute_all([stage for stage in experiment.stages if store.find(stage) is None], store):
            pass
        return {kind: self.done.count(kind) for kind in ("fit", "sample", "train")}


@pytest.fixture
def counting(tmp_path):
    return Counting(tmp_path / "stages")


def test_store_finds_a_stage_once_its_result_is_there(counting):
    store, stage = Store(counting.path, counting), Stage("fit", {"a": 1})
    assert store.find(stage) is None
    assert store.compute(stage) == {"kind": "fit"} == store.find(stage)
    assert store.folder(stage) == store.folder(stage.name) == counting.path / stage.name
    assert store.find(Stage("fit", {"a": 2})) is None


def test_store_does_not_take_an_unfinished_folder_for_a_result(counting):
    store, stage = Store(counting.path, counting), Stage("fit", {"a": 1})
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
    data = build.load_config("experiments/quickstart.py")["data"]
    assert counting.conduct(data={**data, "base_seed": 1}) == everything


def test_store_computes_again_only_the_trains_of_another_learning_rate(counting):
    counting.conduct()
    arms = build.load_config("experiments/quickstart.py:quick")["arms"]
    faster = tuple({**a, "overrides": {**a["overrides"], "optim": {"learning_rate": 1e-3}}} for a in arms)
    assert counting.conduct(arms=faster) == {"fit": 0, "sample": 0, "train": 36}


def test_store_computes_again_only_what_uses_a_set_of_another_size(counting):
    """Two of the arms use the EDM's set."""
    counting.conduct()
    sets = build.load_config("experiments/quickstart.py:quick")["sets"]
    more = {**sets, "edm": {**sets["edm"], "overrides": {"num_images": 60}}}
    assert counting.conduct(sets=more) == {"fit": 0, "sample": 3, "train": 6}


def test_store_computes_again_all_that_stands_on_another_generator(counting):
    counting.conduct()
    generators = build.load_config("experiments/quickstart.py:quick")["generators"]
    longer = {**generators, "ddpm": {**generators["ddpm"], "overrides": {"train": {"num_steps": 30}}}}
    assert counting.conduct(generators=longer) == {"fit": 1, "sample": 3, "train": 3}


def test_store_computes_again_only_the_arm_whose_sampler_changed(counting):
    counting.conduct()
    arms = build.load_config("experiments/quickstart.py:quick")["arms"]
    shares = {"real": 0.75, "edm": 0.25}
    other = tuple({**a, "sampler": {**a["sampler"], "shares": shares}} if a["name"] == "edm_mixed" else a for a in arms)
    assert counting.conduct(arms=other) == {"fit": 0, "sample": 0, "train": 3}


def test_store_computes_nothing_again_for_other_words(counting):
    """Titles, descriptions and the question are of the page; no result depends on them."""
    counting.conduct()
    arms = build.load_config("experiments/quickstart.py:quick")["arms"]
    other = tuple({**a, "title": "Another", "description": "Said otherwise."} for a in arms)
    assert counting.conduct(arms=other, question="?") == {"fit": 0, "sample": 0, "train": 0}
