"""Laying out an experiment: whole configurations, the runs and diagnostics there are, and what is refused."""

import pytest
from toy_study import SCHEMAS, SHARE, arm, completed, diagnostic, experiment, lay_out, read

from jaxmoust.config import typed
from jaxmoust.study.expand import complete_study


@pytest.fixture
def config():
    return experiment()


# --- configurations --------------------------------------------------------------------------------------------------


def test_entry_says_beside_its_file_what_differs_and_shares_the_studys_images(config):
    config["generators"]["g"] = {"config": "fit.py", "train": {"num_steps": 20}}
    done = completed(config)
    generator = done["generators"]["g"]
    assert generator["train"] == {"num_steps": 20, "batch_size": 8} and generator["seed"] == 5
    assert done["classifier"]["data"]["source"] == generator["data"]["source"] == "digits"
    assert completed({**config, "generators": {"g": "fit.py"}})["generators"]["g"]["train"]["num_steps"] == 10


def test_completed_experiment_completes_to_itself(config):
    config["domains"] = {"gap": diagnostic("domain", "a", "real")}
    done = completed(config)
    assert completed(done) == done


@pytest.mark.parametrize(
    ("word", "where"),
    [
        ("generators.g.train.num_steps=300", ("generators", "g", "train", "num_steps")),
        ("sets.a.num_images=300", ("sets", "a", "num_images")),
        ("scores.sure.score=300", ("scores", "sure", "score")),
        ("domains.gap.train.num_steps=300", ("domains", "gap", "train", "num_steps")),
        ("measures.near.extractor.path=300", ("measures", "near", "extractor", "path")),
        ("classifier.train.num_steps=300", ("classifier", "train", "num_steps")),
        ("data.n_base=300", ("data", "n_base")),
        ("data.n_base=300", ("generators", "g", "data", "n_base")),
    ],
)
def test_command_line_sets_a_field_of_any_table(config, word, where):
    config["domains"] = {"gap": diagnostic("domain", "a", "real")}
    config["measures"] = {"near": diagnostic("measure", "a")}
    value = completed(config, **typed([f"--config.{word}"]))
    for name in where:
        value = value[name]
    assert str(value) == "300"


def test_command_line_names_another_file_for_an_entry(config):
    done = completed(config, **typed(["--config.sets.a=external.py", "--config.sets.a.generator="][:1]))
    assert done["sets"]["a"]["task"] == "text_to_image"
    done = completed(config, **typed(["--config.generators.g.config=tune.py"]))
    assert done["generators"]["g"]["task"] == "finetune"


def test_study_until_it_is_decided_has_as_many_seeds_as_an_arm_may_have(config):
    config["seeds"] = (4, 2)
    assert lay_out(config).seeds == (4, 2)
    config["decide"] = {"until_decided": True, "looks": (2, 3), "most_seeds": 4}
    assert lay_out(config).seeds == (4, 2, 5, 6)
    config["decide"]["most_seeds"], config["seeds"] = 2, (4, 2, 9)
    assert lay_out(config).seeds == (4, 2)


def test_arms_are_of_a_family_by_what_they_are_or_as_it_is_said(config):
    alone = {"name": "share", "shares": {"real": 0.0, "a": 1.0}}
    config["arms"] += (arm("alone", ("a",), sampler=alone), arm("then_real", start="alone"))
    families = {one.name: one.family for one in lay_out(config).arms}
    mixtures = dict.fromkeys(("mixed", "both", "union", "then_real"), "mixture")
    assert families == {"real": "control", "alone": "synthetic_alone", **mixtures}
    config["decide"] = {"families": {"union": "shuffled"}}
    assert {one.name: one.family for one in lay_out(config).arms} == {**families, "union": "shuffled"}


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        (("init", "order", "draw"), "A claim holds for these generators and this base set."),
        (("init", "draw", "generator", "base"), "A claim holds for this order of images."),
        (("init", "order", "draw", "generator", "base"), "A claim holds for base sets drawn as these are."),
    ],
)
def test_claim_is_for_what_seeds_do_not_vary(config, vary, words):
    claim = lay_out({**config, "vary": vary}).claim
    assert claim.startswith("With each seed the classifier's initialisation") and claim.endswith(words)


def test_claim_of_real_images_alone_speaks_of_no_generator(config):
    config |= {"arms": config["arms"][:1], "generators": {}, "sets": {}}
    said = "With each seed the classifier's initialisation and the order of its images vary. A claim holds for"
    assert lay_out(config).claim == f"{said} this base set."


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("generators.g.train.bogus=1", r"config\.generators\.g\.train has no field 'bogus'.*num_steps"),
        ("generators.bogus.seed=1", r"config\.generators has no entry 'bogus'\. Allowed: g\."),
        ("domains.bogus.seed=1", r"config\.domains has no entry 'bogus'\. Allowed: none"),
        ("sets=3", r"config\.sets is '3'; it has entries by name"),
        ("classifier.trian.num_steps=1", r"config\.classifier has no field 'trian'.*Did you mean 'train'"),
        ("classifier.seed=3", r"config\.classifier\.seed would do nothing: a study sets it"),
        ("classifier.order_seed=3", r"config\.classifier\.order_seed would do nothing: a study sets it"),
        ("vary=init,nosie", r"config\.vary is .*expected a list by commas, each one of init, order, draw, generator"),
        ("decide.margn=2", r"config\.decide has no field 'margn'.*Did you mean 'margin'"),
        ("classifier.train.num_steps=x", r"config\.classifier\.train\.num_steps is x, expected a whole number"),
        ("scores.sure.bogus=1", r"config\.scores\.sure has no field 'bogus'"),
        ("bogus=1", r"config has no field 'bogus'"),
        ("task=fit", r"config has no field 'task'"),
        ("arms=real", r"arms cannot be set on the command line"),
    ],
)
def test_command_line_that_sets_nothing_is_refused_by_name(config, word, words):
    with pytest.raises(ValueError, match=words):
        completed(config, **typed([f"--config.{word}"]))


# --- runs ------------------------------------------------------------------------------------------------------------


def test_runs_are_every_arm_at_every_seed_in_order(config):
    runs = lay_out(config).runs
    names = [(run.arm.name, run.seed) for run in runs]
    assert names == [(name, seed) for name in ("real", "mixed", "both", "union") for seed in (0, 1)]
    assert len({run.stage.name for run in runs}) == len(runs)


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


def test_generator_of_a_run_is_what_its_set_was_sampled_from(grid):
    said = {run.arm.name: run.arm.generators for run in lay_out(grid).runs}
    assert said["a_10"] == said["b_100"] == ("g",) and said["as_it_is_10"] == ("set_",) and said["real_10"] == ()


def test_sets_for_pictures_say_which_base_set_they_are_of(grid):
    assert list(lay_out(grid).sets) == ["a, n_base 10", "much", "set_", "b, n_base 10", "a", "b"]


def test_base_set_of_all_images_is_called_so(grid):
    grid["generators"]["much"]["data"]["n_base"] = 0
    assert "much, n_base all" in lay_out(grid).sets


def test_sets_for_pictures_are_those_that_an_arm_uses(config):
    """A declared set that no arm mixes in is never written, so nobody may open it."""
    laid_out = lay_out(config)
    assert list(laid_out.sets) == ["a", "b"]
    assert {stage.config["seed"] for stage in laid_out.sets.values()} == {0}


def test_arms_are_compared_with_the_baseline_of_their_base_set(grid):
    compared = {arm.name: arm.baseline for arm in lay_out(grid).arms}
    assert compared == {name: f"real_{name.rpartition('_')[2]}" for name in compared}
    one = lay_out({**grid, "baseline": "real_10"})
    assert {arm.baseline for arm in one.arms} == {"real_10"} and one.baseline == "real_10"


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        (("real_10", "a_10"), r"holds \['real_10', 'a_10'\] for the base set of the arm 'real_10' \(n_base 10\)"),
        (("real_10", "a_10", "real_100"), r"expected one for each base set"),
        (("real_100", "bogus"), r"one of the arms"),
        (("real_100", "real_100"), r"each once"),
        ((), r"one of the arms"),
    ],
)
def test_baselines_that_are_not_one_for_each_base_set_are_refused(grid, baseline, words):
    with pytest.raises(ValueError, match=words):
        lay_out({**grid, "baseline": baseline})


def test_arm_says_what_it_begins_as(started):
    said = {one.name: one.description for one in lay_out(started).arms}
    assert said["last"].endswith(" It begins as the classifier of Middle, after the 10 steps of that.")
    assert "begins" not in said["first"]


def test_diagnostics_are_of_their_set_at_the_first_seed_or_at_all(diagnosed):
    diagnostics = lay_out(diagnosed).diagnostics
    assert [(one.table, one.name, one.set, one.seed) for one in diagnostics] == [
        ("domains", "gap", "a", 0),
        ("domains", "alone", "unused", 0),
        ("domains", "alone", "unused", 1),
        ("measures", "near", "a", 0),
        ("measures", "pixels", "b", 0),
    ]


def test_stages_of_an_experiment_are_those_of_its_runs_and_diagnostics_and_what_they_need(diagnosed):
    with_diagnostics = [stage.name for stage in lay_out(diagnosed).stages]
    assert len(set(with_diagnostics)) == len(with_diagnostics)
    without = [stage.name for stage in lay_out({**diagnosed, "domains": {}, "measures": {}}).stages]
    # Four diagnostics at the first seed, one at the second, and the two samplings of a set that no arm mixes in.
    assert len(with_diagnostics) == len(without) + 5 + 2 and set(without) < set(with_diagnostics)


def test_stages_say_what_they_do(diagnosed):
    diagnosed["arms"] += (arm("scored", ("a",), data={"scores": "sure"}),)
    laid_out = lay_out(diagnosed)
    said = [laid_out.describe(stage) for stage in laid_out.stages]
    assert "train mixed, seed 1" in said and "sample b, seed 1" in said and "domain alone, seed 1" in said
    assert "score confidence of a, seed 0" in said and len(set(said)) == len(said)


def test_two_thousand_stages_are_laid_out_in_a_moment(config):
    """Each once: of a chain of arms that begin as one another, and are scored by the one before, too."""
    config["seeds"] = tuple(range(50))
    config["scores"] = {f"by_{i}": {"arm": f"arm_{i}", "config": "score.py"} for i in range(19)}
    config["arms"] = (
        arm("real"),
        arm("arm_0"),
        *(arm(f"arm_{i}", ("a",), start=f"arm_{i - 1}", data={"scores": f"by_{i - 1}"}) for i in range(1, 20)),
    )
    laid_out = lay_out(config)
    assert len(laid_out.stages) == 1 + 50 + 50 * (20 + 19)  # the first two arms are the same
    assert [need.kind for need in laid_out.runs[-1].stage.needs] == ["sample", "score", "train"]


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"domains": {"gap": diagnostic("domain", "bogus")}}, r"domains\.gap\.set names 'bogus'; there are a, b, un"),
        ({"domains": {"gap": diagnostic("domain", "a", "bogus")}}, r"domains\.gap\.arm names 'bogus'; there are real"),
        ({"domains": {"gap": diagnostic("measure", "a")}}, "of task 'measure'; one of task 'domain'"),
        ({"domains": {"gap": diagnostic("domain", "a", seeds="two")}}, r"gap\.seeds is 'two'.*one of first, all"),
        ({"domains": {"gap": {"set": "a"}}}, r"domains\.gap is without a file, a configuration of task None"),
        ({"domains": {"gap": diagnostic("domain", "a", bogus=1)}}, r"domains\.gap has no field 'bogus'"),
        ({"domains": {"sure": diagnostic("domain", "a")}}, r"scores and config\.domains both have 'sure'"),
        ({"arms": (arm("real"), arm("x", ("b",), data={"scores": "gap"}))}, r"domain 'gap' for the set 'b'.*set 'a'"),
        ({"arms": (arm("real", ("a",), data={"scores": "gap"}),)}, r"arms \['real', 'real'\] wait for each other"),
    ],
)
def test_diagnostic_that_cannot_be_laid_out_is_refused(diagnosed, change, words):
    with pytest.raises(ValueError, match=words):
        lay_out({**diagnosed, **change})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": ()}, r"seeds \(\).*at least one"),
        ({"seeds": ("none",)}, r"config\.seeds is \('none',\)"),
        ({"seeds": (-1, 1)}, r"seeds \(-1, 1\).*integers from 0 up"),
        ({"seeds": (0, 1, 0)}, r"seeds \(0, 1, 0\).*each once"),
        ({"vary": ("draw", "generator")}, r"vary .*leaves 'real'.*the same at several seeds.*init, order or base"),
        ({"vary": ("init", "init")}, r"vary .*each thing once"),
        ({"decide": {"margin": 0.0}}, r"decide\.margin 0\.0: expected a number above 0"),
        ({"decide": {"looks": (5, 3)}}, r"decide\.looks \(5, 3\): expected numbers of seeds that rise"),
        ({"decide": {"most_seeds": 2}}, r"decide\.most_seeds 2 is below the first look, after 3 seeds"),
        ({"decide": {"families": {"bogus": "x"}}}, r"decide\.families names 'bogus'; there are real, mixed"),
        ({"baseline": "bogus"}, r"baseline is 'bogus'.*'real', 'mixed'"),
        ({"arms": ()}, r"arms is empty"),
        ({"arms": (arm("real"), arm("real"))}, r"each once"),
        ({"arms": (arm("real"), arm("x", ("bogus",)))}, r"arms\.x\.sets names 'bogus'; there are a, b"),
        ({"arms": (arm("real"), arm("x", ("a", "a"), sampler=SHARE))}, r"arms\.x\.sets .*each set once"),
        ({"arms": (arm("real"), arm("x", ("a",), data={"scores": "bogus"}))}, r"arms\.x\.data\.scores names 'bogus'"),
        ({"arms": (arm("real"), arm("x", ("a",), data={"scores": ("sure", "sure")}))}, r"x.*for 1 sets.*one for each"),
        ({"arms": (arm("real", ("a",), data={"scores": "sure"}),)}, r"arms \['real', 'real'\] wait for each other"),
        ({"scores": {"sure": {"arm": "real"}}}, r"scores\.sure is without a file"),
        ({"arms": (arm("real"), arm("x", train={"bogus": 1}))}, r"arms\.x\.train has no field 'bogus'"),
        ({"arms": (arm("real"), {"name": "x"})}, r"arms\[1\]\.title is missing"),
        ({"arms": (arm("real"), arm("x", bogus=1))}, r"arms\[1\] has no field 'bogus'.*start.*train"),
        ({"arms": (arm("real"), arm("x", seed=1))}, r"arms\[1\] has no field 'seed'"),
        ({"arms": (arm("real"), arm("x", data=3))}, r"arms\[1\]\.data is 3; it has fields"),
        ({"arms": (arm("real"), "x")}, r"arms\[1\] is 'x', expected dict"),
        ({"arms": (arm("real"), arm("x", train={"num_steps": 11}))}, r"these differ.*'x': \(11, 8\)"),
        ({"arms": (arm("real"), arm("x", train={"batch_size": 16}))}, r"these differ.*'x': \(10, 16\)"),
        ({"classifier": "bogus.py"}, "no bogus.py"),
        ({"classifier": 3}, "config.classifier is 3, expected the path"),
        ({"classifier": "fit.py"}, "fit.py, a configuration of task 'diffuse'; one of task 'classify'"),
        ({"data": {"source": "digits", "bogus": 1}}, r"config\.data has no field 'bogus'"),
        ({"bogus": 1}, r"config has no field 'bogus'"),
        ({"generators": 3}, r"config\.generators is 3; it has entries by name"),
        ({"generators": {"g": 3}}, r"config\.generators\.g is 3, expected the path"),
        ({"generators": {"g": {"config": "sample.py"}}}, "of task 'sample'; one of task 'diffuse' or 'finetune'"),
        ({"generators": {"g": {"config": "fit.py", "x": 1}}}, r"generators\.g has no field 'x'"),
        ({"sets": {"a": {"config": "sample.py"}}}, r"sets\.a\.generator names ''; there are g"),
        (
            {"sets": {"a": {"generator": "bogus", "config": "sample.py"}}},
            r"sets\.a\.generator names 'bogus'; there are g",
        ),
        ({"sets": {"a": {"generator": "g", "config": "fit.py"}}}, "of task 'diffuse'; one of task 's"),
        ({"sets": {"real": {"generator": "g", "config": "sample.py"}}}, "what the real images are"),
    ],
)
def test_experiment_that_cannot_be_laid_out_is_refused(config, change, words):
    with pytest.raises(ValueError, match=words):
        lay_out({**config, **change})


@pytest.mark.parametrize("field", ["name", "baseline", "data", "classifier", "arms"])
def test_experiment_without_what_has_no_default_is_refused(config, field):
    with pytest.raises(ValueError, match=rf"config\.{field}"):
        lay_out({name: value for name, value in config.items() if name != field})


def test_file_that_cannot_be_read_is_refused_with_its_words(config):
    with pytest.raises(ValueError, match=r"no bogus\.py"):
        complete_study({**config, "sets": {"a": "bogus.py"}}, {}, read, SCHEMAS.__getitem__)
