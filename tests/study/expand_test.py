"""Laying out an experiment: which runs there are, what they stand on, and what is refused before anything runs."""

import copy

import pytest

from jaxmoust.build import override
from jaxmoust.study.expand import expand

TRAIN = {"num_steps": 10, "batch_size": 8}
FILES = {
    "fit.py": {"seed": 5, "task": "diffuse", "data": {"source": "", "digest": ""}, "train": TRAIN},
    "sample.py": {"seed": 5, "task": "sample", "generator": "", "name": "", "num_images": 40},
    "tune.py": {
        "seed": 5,
        "task": "finetune",
        "data": {"source": "", "digest": ""},
        "pipeline": {"path": "public"},
        "method": {"rank": 4, "learn_tokens": 0},
        "train": TRAIN,
    },
    "draw.py": {
        "seed": 5,
        "task": "text_to_image",
        "data": {"source": "", "digest": ""},
        "pipeline": {"path": "public"},
        "name": "",
        "num_images": 40,
        "from_real": False,
    },
    "clip.py": {"task": "clip_score", "clip": "", "set": ""},
    "score.py": {"task": "score", "checkpoint": "", "set": "", "score": "confidence", "folds": 0},
    "domain.py": {
        "seed": 5,
        "task": "domain",
        "set": "",
        "classifier": "",
        "data": {"source": "", "digest": ""},
        "train": {"num_steps": 7},
    },
    "measure.py": {
        "task": "measure",
        "set": "",
        "extractor": {"name": "classifier", "path": ""},
        "data": {"source": "", "digest": ""},
    },
    "train.py": {
        "seed": 5,
        "task": "classify",
        "data": {"source": "", "digest": "", "synthetic": (), "scores": ""},
        "sampler": {"name": "random"},
        "train": TRAIN,
    },
}


SHARE = {"name": "share", "shares": {"real": 0.5, "a": 0.5}}


def arm(name, sets=(), sampler=None, **overrides):
    return {"name": name, "title": "", "description": "", "sets": sets, "sampler": sampler, "overrides": overrides}


@pytest.fixture
def config():
    return copy.deepcopy(
        {
            "task": "study",
            "name": "toy",
            "question": "?",
            "baseline": "real",
            "seeds": (0, 1),
            "data": {"source": "digits"},
            "generators": {"g": {"config": "fit.py", "overrides": {}}},
            "sets": {
                "a": {"generator": "g", "config": "sample.py", "overrides": {}},
                "b": {"generator": "g", "config": "sample.py", "overrides": {"num_images": 80}},
                "unused": {"generator": "g", "config": "sample.py", "overrides": {}},
            },
            "scores": {"sure": {"arm": "real", "config": "score.py", "overrides": {}}},
            "classifier": "train.py",
            "arms": (arm("real"), arm("mixed", ("a",), SHARE), arm("both", ("a", "b"), SHARE), arm("union", ("a",))),
        }
    )


def lay_out(config, content_digest=lambda path: ""):
    files = config.get("files", FILES)
    config = {name: value for name, value in config.items() if name != "files"}

    def load_config(path):
        if path not in files:
            raise ValueError(f"no {path}")
        return copy.deepcopy(files[path])

    return expand(config, load_config, override, lambda data: f"digest of {data['source']}", content_digest)


def test_runs_are_every_arm_at_every_seed_in_order(config):
    runs = lay_out(config).runs
    names = [(run.arm.name, run.seed) for run in runs]
    assert names == [(name, seed) for name in ("real", "mixed", "both", "union") for seed in (0, 1)]
    assert len({run.stage.name for run in runs}) == len(runs)


def test_seeds_vary_classifiers_and_sets_and_leave_the_generator(config):
    mixed = [run.stage for run in lay_out(config).runs if run.arm.name == "mixed"]
    assert [stage.config["seed"] for stage in mixed] == [0, 1]
    sets = [stage.needs[0] for stage in mixed]
    assert [made.config["seed"] for made in sets] == [0, 1]
    generators = {made.needs[0].name for made in sets}
    assert len(generators) == 1
    assert sets[0].needs[0].config["seed"] == 5


@pytest.fixture
def external(config):
    """Stable Diffusion as it is, adapted, and trained whole, beside the generator inside the data set."""
    config["generators"] |= {
        "adapted": {"config": "tune.py", "overrides": {}},
        "whole": {"config": "tune.py", "overrides": {"method": {"rank": 0}}},
        "words": {"config": "tune.py", "overrides": {"method": {"learn_tokens": 1}}},
    }
    for generator in ("", "adapted", "whole", "words"):
        config["sets"][f"set_{generator}"] = {"generator": generator, "config": "draw.py", "overrides": {}}
    config["arms"] += tuple(arm(f"arm_{name}", (f"set_{name}",)) for name in ("", "adapted", "whole", "words"))
    config["arms"] += (arm("two", ("a", "set_adapted")),)
    return config


def test_external_sets_are_drawn_from_a_pipeline_or_from_what_was_tuned_of_it(external):
    runs = {run.arm.name: run for run in lay_out(external).runs}
    as_it_is, adapted = (runs[name].stage.needs[0] for name in ("arm_", "arm_adapted"))
    assert as_it_is.config["pipeline"]["path"] == "public" and not as_it_is.needs
    assert adapted.config["pipeline"]["path"] == adapted.needs[0].name and adapted.needs[0].kind == "fit"
    for stage in (as_it_is, adapted, adapted.needs[0]):
        assert stage.config["data"] == {"source": "digits", "digest": "digest of digits"}


def test_run_says_what_of_its_generators_was_fine_tuned(external):
    said = {run.arm.name: run.fine_tuning for run in lay_out(external).runs}
    assert said == {
        "real": "none",
        "mixed": "none",
        "both": "none+none",
        "union": "none",
        "arm_": "none",
        "arm_adapted": "lora",
        "arm_whole": "full",
        "arm_words": "lora_tokens",
        "two": "none+lora",
    }


def test_other_weights_under_a_path_make_other_stages_of_what_stands_on_them_alone(external):
    def names(content):
        runs = lay_out(external, {"public": content}.get if content else lambda path: "").runs
        return {(run.arm.name, run.seed): run.stage.name for run in runs}

    of_the_hub, before, after = names(""), names("one"), names("other")
    assert before == names("one")
    changed = {arm for (arm, _), name in after.items() if name not in before.values()}
    assert changed == {"arm_", "arm_adapted", "arm_whole", "arm_words", "two"}
    assert changed == {arm for (arm, _), name in after.items() if name not in of_the_hub.values()}


@pytest.mark.parametrize(("kind", "generator"), [("draw.py", "g"), ("sample.py", "adapted"), ("sample.py", "")])
def test_set_from_a_generator_of_another_kind_is_refused(external, kind, generator):
    external["sets"]["set_"] = {"generator": generator, "config": kind, "overrides": {}}
    with pytest.raises(ValueError, match=r"config\.sets\.set_"):
        lay_out(external)


@pytest.fixture
def grid(external):
    """Two base sets; of one generator, a set for each; and one generator that has seen the larger base set always."""
    external["data"]["n_base"] = 100
    external["files"] = copy.deepcopy(FILES)
    for file in ("fit.py", "tune.py", "draw.py", "train.py", "domain.py"):
        external["files"][file]["data"]["n_base"] = 1
    external["generators"]["much"] = {"config": "fit.py", "overrides": {"data": {"n_base": 100}}}
    external["sets"]["much"] = {"generator": "much", "config": "sample.py", "overrides": {}}
    external["domains"] = {"gap": probe("domain", "a", "a_10")}
    external["baseline"] = ("real_10", "real_100")
    few = {"data": {"n_base": 10}}
    external["arms"] = tuple(
        arm(f"{name}_{n}", sets, **({} if n == 100 else few))
        for n in (10, 100)
        for name, sets in (("real", ()), ("a", ("a",)), ("much", ("much",)), ("as_it_is", ("set_",)), ("b", ("b",)))
    )
    return external


def test_arm_with_a_base_set_of_its_own_mixes_what_was_made_of_it(grid):
    needs = {run.arm.name: run.stage.needs for run in lay_out(grid).runs if run.seed == 0}
    for name, n_base in (("a_10", 10), ("a_100", 100), ("much_10", 100), ("much_100", 100)):
        (made,) = needs[name]
        assert made.needs[0].config["data"]["n_base"] == n_base
    assert needs["a_10"][0].needs == needs["b_10"][0].needs  # a generator for each base set, whatever draws from it
    assert needs["as_it_is_10"] == needs["as_it_is_100"]  # what no base set has a part in is drawn once


def test_generator_of_a_run_is_what_its_set_was_drawn_from(grid):
    said = {run.arm.name: run.arm.generators for run in lay_out(grid).runs}
    assert said["a_10"] == said["b_100"] == ("g",) and said["as_it_is_10"] == ("set_",) and said["real_10"] == ()


def test_probe_compares_a_set_with_the_base_set_of_its_arm(grid):
    (gap,) = lay_out(grid).probes
    assert gap.stage.config["data"]["n_base"] == gap.stage.needs[0].needs[0].config["data"]["n_base"] == 10


def test_sets_for_pictures_say_which_base_set_they_are_of(grid):
    assert list(lay_out(grid).sets) == ["a, n_base 10", "much", "set_", "b, n_base 10", "a", "b"]


def test_base_set_of_all_images_is_called_so(grid):
    grid["generators"]["much"]["overrides"]["data"]["n_base"] = 0
    grid["sets"]["many"] = {"generator": "much", "config": "sample.py", "overrides": {}}
    grid["arms"] += (arm("many", ("many",)),)
    assert "many, n_base all" in lay_out(grid).sets


def test_arms_are_compared_with_the_baseline_of_their_base_set(grid):
    compared = {arm.name: arm.baseline for arm in lay_out(grid).arms}
    assert compared == {name: f"real_{name.rpartition('_')[2]}" for name in compared}
    one = lay_out({**grid, "baseline": "real_10"})
    assert {arm.baseline for arm in one.arms} == {"real_10"} and one.baseline == "real_10"


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (("real_10", "a_10"), r"holds \['real_10', 'a_10'\] for the base set of the arm 'real_10' \(n_base 10\)"),
        (("real_10", "a_10", "real_100"), r"allowed is one for each base set"),
        (("real_100", "bogus"), r"one of the arms"),
        (("real_100", "real_100"), r"each once"),
        ((), r"one of the arms"),
    ],
)
def test_baselines_that_are_not_one_for_each_base_set_are_refused(grid, baseline, words):
    with pytest.raises(ValueError, match=words):
        lay_out({**grid, "baseline": baseline})


def test_stages_refer_to_what_they_need_by_name(config):
    stage = next(run.stage for run in lay_out(config).runs if run.arm.name == "both")
    assert stage.config["data"]["synthetic"] == tuple(need.name for need in stage.needs)
    assert [need.config["name"] for need in stage.needs] == ["a", "b"]
    assert all(need.config["generator"] == need.needs[0].name for need in stage.needs)


def test_sampler_of_an_arm_takes_the_place_of_the_classifiers(config):
    samplers = {run.arm.name: run.stage.config["sampler"] for run in lay_out(config).runs}
    assert samplers == {"real": {"name": "random"}, "mixed": SHARE, "both": SHARE, "union": {"name": "random"}}


def test_scores_are_given_by_the_arms_classifier_of_the_same_seed_for_each_set(config):
    config["arms"] = (arm("scored", ("a", "b"), data={"scores": "sure"}), arm("real"))
    runs = {(run.arm.name, run.seed): run.stage for run in lay_out(config).runs}
    for seed in (0, 1):
        a, b, *scores = runs["scored", seed].needs
        assert [(s.kind, s.config["set"], s.config["checkpoint"]) for s in scores] == [
            ("score", made.name, runs["real", seed].name) for made in (a, b)
        ]
        assert runs["scored", seed].config["data"]["scores"] == tuple(s.name for s in scores)
        assert all(runs["real", seed] in s.needs for s in scores)


def test_each_set_may_have_a_score_of_its_own(config):
    config["scores"]["wide"] = {"arm": "real", "config": "score.py", "overrides": {"score": "margin"}}
    config["arms"] = (arm("scored", ("a", "b"), data={"scores": ("sure", "wide")}), arm("real"))
    scores = lay_out(config).runs[0].stage.needs[2:]
    assert [s.config["score"] for s in scores] == ["confidence", "margin"]
    assert [s.config["set"] for s in scores] == [need.name for need in lay_out(config).runs[0].stage.needs[:2]]


def test_clip_scores_a_set_without_any_arms_classifier(config):
    config["scores"]["clip"] = {"arm": "", "config": "clip.py", "overrides": {"clip": "folder"}}
    config["arms"] = (arm("scored", ("a",), data={"scores": "clip"}), arm("real"))
    for run in lay_out(config).runs[:2]:
        made, scored = run.stage.needs
        assert (scored.kind, scored.needs) == ("score", (made,))
        assert scored.config == {"task": "clip_score", "clip": "folder", "set": made.name}


@pytest.fixture
def started(config):
    """An arm that begins as another's classifier, which itself begins as that of a third."""
    config["files"] = copy.deepcopy(FILES)
    config["files"]["train.py"]["method"] = {"pretrained": ""}
    config["arms"] = (
        arm("real"),
        arm("last", ("a",)) | {"start": "middle"},
        arm("middle") | {"start": "first", "title": "Middle"},
        arm("first", ("b",)),
    )
    return config


def test_arm_begins_as_the_classifier_of_another_at_its_seed(started):
    stages = {(run.arm.name, run.seed): run.stage for run in lay_out(started).runs}
    for seed in (0, 1):
        for name, before in (("last", "middle"), ("middle", "first")):
            stage = stages[name, seed]
            assert stage.needs[-1] == stages[before, seed]
            assert stage.config["method"]["pretrained"] == stages[before, seed].name
        assert stages["real", seed].config["method"]["pretrained"] == ""
    assert [need.kind for need in stages["last", 0].needs] == ["sample", "train"]


def test_arm_says_what_it_begins_as(started):
    said = {one.name: one.description for one in lay_out(started).arms}
    steps = FILES["train.py"]["train"]["num_steps"]
    assert said["last"].endswith(f" It begins as the classifier of Middle, after the {steps:,} steps of that.")
    assert "begins" not in said["first"]


@pytest.mark.parametrize(
    ("first", "words"), [("last", r"'middle', 'first'.*wait for each other"), ("bogus", "'bogus'")]
)
def test_arms_that_begin_as_each_other_or_as_nobody_are_refused(started, first, words):
    started["arms"][3]["start"] = first
    with pytest.raises(ValueError, match=words):
        lay_out(started)


def test_clip_score_that_names_an_arm_is_refused(config):
    config["scores"]["clip"] = {"arm": "real", "config": "clip.py", "overrides": {"clip": "folder"}}
    config["arms"] = (arm("scored", ("a",), data={"scores": "clip"}), arm("real"))
    with pytest.raises(ValueError, match=r"scores\.clip\.arm is 'real'.*Leave the arm empty"):
        lay_out(config)


def probe(kind, of, arm="", **more):
    return {"set": of, "arm": arm, "config": f"{kind}.py", "overrides": {}, **more}


@pytest.fixture
def probed(config):
    config["domains"] = {"gap": probe("domain", "a", "real"), "alone": probe("domain", "unused", seeds="all")}
    config["measures"] = {"near": probe("measure", "a", "real"), "pixels": probe("measure", "b")}
    return config


def test_probes_look_at_their_set_at_the_first_seed_or_at_all(probed):
    probes = lay_out(probed).probes
    assert [(p.table, p.name, p.set, p.seed) for p in probes] == [
        ("domains", "gap", "a", 0),
        ("domains", "alone", "unused", 0),
        ("domains", "alone", "unused", 1),
        ("measures", "near", "a", 0),
        ("measures", "pixels", "b", 0),
    ]
    for p in probes:
        assert p.stage.kind == p.stage.config["task"] == {"domains": "domain", "measures": "measure"}[p.table]
        assert p.stage.config["set"] == p.stage.needs[0].name
        assert p.stage.needs[0].config["name"] == p.set and p.stage.needs[0].config["seed"] == p.seed
        assert p.stage.config["data"] == {"source": "digits", "digest": "digest of digits"}
        assert p.stage.config.get("seed", p.seed) == p.seed


def test_probes_are_given_the_classifier_of_their_arm_at_their_seed_or_none(probed):
    experiment = lay_out(probed)
    real = next(run.stage for run in experiment.runs if run.arm.name == "real" and run.seed == 0)
    gap, alone, _, near, pixels = (p.stage for p in experiment.probes)
    assert gap.config["classifier"] == near.config["extractor"]["path"] == real.name
    assert gap.needs[1] == near.needs[1] == real
    assert alone.config["classifier"] == pixels.config["extractor"]["path"] == ""
    assert len(alone.needs) == len(pixels.needs) == 1


def test_stages_of_an_experiment_are_those_of_its_runs_and_probes_and_what_they_need(probed):
    with_probes = [stage.name for stage in lay_out(probed).stages]
    assert len(set(with_probes)) == len(with_probes)
    without = [stage.name for stage in lay_out({**probed, "domains": {}, "measures": {}}).stages]
    # Four probes at the first seed, one at the second, and the two sets that no arm mixes in.
    assert len(with_probes) == len(without) + 5 + 2 and set(without) < set(with_probes)


def test_domain_scores_the_sets_of_an_arm_at_every_seed(probed):
    probed["arms"] = (arm("real"), arm("ratio", ("a",), data={"scores": "gap"}))
    for run in lay_out(probed).runs[2:]:
        made, scored = run.stage.needs
        assert (scored.kind, scored.config["set"], scored.config["seed"]) == ("domain", made.name, run.seed)
        assert run.stage.config["data"]["scores"] == (scored.name,)
    shown = next(p.stage for p in lay_out(probed).probes if p.name == "gap")
    assert shown.name == lay_out(probed).runs[2].stage.needs[1].name  # computed once for both


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"domains": {"gap": probe("domain", "bogus")}}, r"domains\.gap\.set names 'bogus'; there are a, b, unused"),
        ({"domains": {"gap": probe("domain", "a", "bogus")}}, r"domains\.gap\.arm names 'bogus'; there are real"),
        ({"domains": {"gap": probe("measure", "a")}}, "of task 'measure'; one of task 'domain'"),
        ({"domains": {"gap": probe("domain", "a", seeds="two")}}, r"gap\.seeds is 'two'; allowed are first, all"),
        ({"domains": {"gap": {"set": "a"}}}, r"domains\.gap has .*lacks \['arm', 'config', 'overrides'\]"),
        ({"domains": {"gap": probe("domain", "a", bogus=1)}}, r"domains\.gap has unknown fields \['bogus'\]"),
        (
            {"measures": {"m": probe("measure", "a") | {"overrides": {"x": 1}}}},
            r"measures\.m\.overrides has no field x",
        ),
        ({"domains": {"sure": probe("domain", "a")}}, r"scores and config\.domains both have 'sure'"),
        ({"arms": (arm("real"), arm("x", ("b",), data={"scores": "gap"}))}, r"domain 'gap' for the set 'b'.*set 'a'"),
        ({"arms": (arm("real", ("a",), data={"scores": "gap"}),)}, r"arms \['real', 'real'\] wait for each other"),
    ],
)
def test_probe_that_cannot_be_laid_out_is_refused(probed, change, words):
    with pytest.raises(ValueError, match=words):
        lay_out({**probed, **change})


def test_arms_without_scores_do_not_wait_for_a_classifier(config):
    assert {need.kind for run in lay_out(config).runs for need in run.stage.needs} == {"sample"}


def test_content_address_of_the_images_is_in_every_stage_that_reads_them(config):
    runs = lay_out(config).runs
    fits = [made.needs[0] for run in runs for made in run.stage.needs]
    for stage in [run.stage for run in runs] + fits:
        assert stage.config["data"]["digest"] == "digest of digits"


def test_sets_for_pictures_are_those_that_an_arm_uses(config):
    """A declared set that no arm mixes in is never written, so nobody may open it."""
    experiment = lay_out(config)
    assert list(experiment.sets) == ["a", "b"]
    assert {stage.config["seed"] for stage in experiment.sets.values()} == {0}


def test_overrides_of_one_arm_leave_the_others(config):
    config["arms"] = (arm("real"), arm("bright", sampler={"name": "other"}))
    names = {run.arm.name: run.stage.config["sampler"]["name"] for run in lay_out(config).runs}
    assert names == {"real": "random", "bright": "other"}


@pytest.mark.parametrize(
    "change, words",
    [
        ({"seeds": ()}, r"seeds \(\).*at least one"),
        ({"seeds": ("none",)}, r"seeds \('none',\).*integers from 0 up"),
        ({"seeds": (-1, 1.5)}, r"seeds \(-1, 1\.5\).*integers from 0 up"),
        ({"seeds": (0, 1, 0)}, r"seeds \(0, 1, 0\).*each once"),
        ({"baseline": "bogus"}, r"baseline is 'bogus'.*'real', 'mixed'"),
        ({"arms": (arm("real"), arm("real"))}, r"each once"),
        ({"arms": (arm("real"), arm("x", ("bogus",)))}, r"arms\.x\.sets names 'bogus'; there are a, b"),
        ({"arms": (arm("real"), arm("x", ("a", "a"), SHARE))}, r"arms\.x\.sets .*each set once"),
        (
            {"arms": (arm("real"), arm("x", ("a",), data={"scores": "bogus"}))},
            r"x\.overrides\.data\.scores names 'bogus'",
        ),
        ({"arms": (arm("real"), arm("x", ("a",), data={"scores": ("sure", "sure")}))}, r"x.*for 1 sets.*one for each"),
        ({"arms": (arm("real", ("a",), data={"scores": "sure"}),)}, r"arms \['real', 'real'\] wait for each other"),
        ({"scores": {"sure": {"arm": "real", "config": "score.py"}}}, r"scores\.sure has .*lacks \['overrides'\]"),
        ({"arms": (arm("real"), arm("x", bogus=1))}, r"arms\.x\.overrides has no field bogus"),
        ({"arms": (arm("real"), {"name": "x"})}, r"arms\[1\].*lacks \['description', 'overrides'"),
        ({"arms": (arm("real"), {**arm("x"), "bogus": 1})}, r"arms\[1\] has unknown fields \['bogus'\]"),
        ({"arms": (arm("real"), arm("x", train={"num_steps": 11}))}, r"these differ.*'x': \(11, 8\)"),
        ({"arms": (arm("real"), arm("x", train={"batch_size": 16}))}, r"these differ.*'x': \(10, 16\)"),
        ({"classifier": "bogus.py"}, "no bogus.py"),
        ({"classifier": "fit.py"}, "fit.py is a configuration of task 'diffuse'; one of task 'classify'"),
        ({"data": {"source": "digits", "bogus": 1}}, "has no field bogus"),
        ({"bogus": 1}, r"config has unknown fields \['bogus'\]"),
        ({"generators": {"g": {"config": "fit.py"}}}, r"generators\.g has .* lacks \['overrides'\]"),
        ({"generators": {"g": {"config": "sample.py", "overrides": {}}}}, "of task 'sample'; one of task 'diffuse'"),
        (
            {"generators": {"g": {"config": "fit.py", "overrides": {"x": 1}}}},
            r"generators\.g\.overrides has no field x",
        ),
        ({"sets": {"a": {"config": "sample.py", "overrides": {}}}}, r"sets\.a has .* lacks \['generator'\]"),
        (
            {"sets": {"a": {"generator": "bogus", "config": "sample.py", "overrides": {}}}},
            r"sets\.a\.generator names 'bogus'; there are g",
        ),
        ({"sets": {"a": {"generator": "g", "config": "fit.py", "overrides": {}}}}, "of task 'diffuse'; one of task 's"),
        ({"sets": {"real": {"generator": "g", "config": "sample.py", "overrides": {}}}}, "what the real images are"),
    ],
)
def test_experiment_that_cannot_be_laid_out_is_refused(config, change, words):
    with pytest.raises(ValueError, match=words):
        lay_out({**config, **change})


def test_experiment_without_a_field_is_refused(config):
    for field in config:
        with pytest.raises(ValueError, match=rf"lacks \['{field}'\]"):
            lay_out({k: v for k, v in config.items() if k != field})
