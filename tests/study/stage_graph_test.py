"""The stages of an experiment: what each stands on, on which base set, and what tells it from others."""

import pytest
from toy_study import SHARE, arm, experiment, lay_out

from jaxmoust.study.stage_graph import DIAGNOSTICS


@pytest.fixture
def config():
    return experiment()


def stages_of(config):
    return {(run.arm.name, run.seed): run.stage for run in lay_out(config).runs}


def test_seeds_vary_classifiers_and_sets_and_leave_the_generator(config):
    stages = stages_of(config)
    mixed = [stages["mixed", seed] for seed in (0, 1)]
    assert [stage.config["seed"] for stage in mixed] == [0, 1]
    sets = [stage.needs[0] for stage in mixed]
    assert [sampled.config["seed"] for sampled in sets] == [0, 1]
    assert len({sampled.needs[0].name for sampled in sets}) == 1
    assert sets[0].needs[0].config["seed"] == 5


def test_set_stands_on_the_weaker_generator_that_guides_it(config):
    config["generators"]["weak"] = {"config": "fit.py", "train": {"num_steps": 3}}
    config["sets"]["a"]["autoguidance"] = "weak"
    (sampled,) = stages_of(config)["mixed", 0].needs
    generator, weak = sampled.needs
    assert [sampled.config["generator"], sampled.config["autoguidance"]] == [generator.name, weak.name]
    assert [stage.config["train"]["num_steps"] for stage in (generator, weak)] == [10, 3]
    config["sets"]["a"]["autoguidance"] = "no"
    with pytest.raises(ValueError, match=r"config\.sets\.a\.autoguidance.*'no'"):
        lay_out(config)


def seeds_of(stage):
    """Of a training on a set: (initialisation, order, the set's noise, its generator's training, the base set)."""
    job, (sampled,) = stage.config, stage.needs
    (generator,) = sampled.needs
    order = job["seed"] if job["order_seed"] is None else job["order_seed"]
    assert generator.config["data"]["base_seed"] == job["data"]["base_seed"]
    return job["seed"], order, sampled.config["seed"], generator.config["seed"], job["data"]["base_seed"]


@pytest.mark.parametrize(
    ("vary", "first", "second"),
    [
        (("init", "order", "draw"), (3, 3, 3, 5, 0), (4, 4, 4, 5, 0)),
        (("init",), (3, 3, 3, 5, 0), (4, 3, 3, 5, 0)),
        (("order",), (3, 3, 3, 5, 0), (3, 4, 3, 5, 0)),
        (("init", "generator"), (3, 3, 3, 8, 0), (4, 3, 3, 9, 0)),
        (("base",), (3, 3, 3, 5, 3), (3, 3, 3, 5, 4)),
        (("init", "order", "draw", "generator", "base"), (3, 3, 3, 8, 3), (4, 4, 4, 9, 4)),
    ],
)
def test_seeds_vary_what_the_experiment_says_and_nothing_else(config, vary, first, second):
    config |= {"seeds": (3, 4), "vary": vary}
    stages = stages_of(config)
    assert [seeds_of(stages["mixed", seed]) for seed in (3, 4)] == [first, second]


def test_seed_0_is_the_same_whatever_varies(config):
    """So that a study that varies more finds what one of less has left."""
    everything = {**config, "vary": ("init", "order", "draw", "generator", "base")}
    alike, other = ([stages_of(of)["mixed", seed].name for of in (config, everything)] for seed in (0, 1))
    # The toy's generator has a seed of its own, 5, and counts from there.
    assert len({*alike}) == 1 and len({*other}) == 2


def test_base_sets_of_arms_and_of_entries_vary_with_the_seed_and_those_of_no_image_stay(grid):
    grid |= {"seeds": (0, 1), "vary": ("init", "base")}
    stages = stages_of(grid)
    of = {name: [stages[name, seed].needs[0] for seed in (0, 1)] for name in ("a_10", "much_10", "as_it_is_10")}
    data = {name: [sampled.needs[0].config["data"] for sampled in of[name]] for name in ("a_10", "much_10")}
    assert {name: [(x["n_base"], x["base_seed"]) for x in both] for name, both in data.items()} == {
        "a_10": [(10, 0), (10, 1)],
        "much_10": [(100, 0), (100, 1)],
    }
    assert of["as_it_is_10"][0].name == of["as_it_is_10"][1].name
    gap = [run.stage.config["data"]["base_seed"] for run in lay_out(with_all_seeds(grid)).diagnostics]
    assert gap == [0, 1]


def with_all_seeds(grid):
    return {**grid, "domains": {"gap": {**grid["domains"]["gap"], "seeds": "all"}}}


def test_stages_refer_to_what_they_need_by_name(config):
    stage = stages_of(config)["both", 0]
    assert stage.config["data"]["synthetic"] == tuple(need.name for need in stage.needs)
    assert [need.config["name"] for need in stage.needs] == ["a", "b"]
    assert all(need.config["generator"] == need.needs[0].name for need in stage.needs)


def test_stage_holds_the_configuration_of_its_task_and_nothing_of_the_experiment(diagnosed):
    for stage in lay_out(diagnosed).stages:
        assert not {"own_base", "arm", "seeds", "sets", "config"} & set(stage.config)


def test_equal_stages_are_one(config):
    """Two sets that are the same in all but the name are sampled from one generator; equal arms are trained once."""
    config["generators"]["twin"] = "fit.py"
    config["sets"]["c"] = {"generator": "twin", "config": "sample.py"}
    config["arms"] += (arm("twin", ("c",)), arm("again", ("a",)))
    stages = stages_of(config)
    assert stages["twin", 0].needs[0].needs[0].name == stages["union", 0].needs[0].needs[0].name
    assert stages["again", 0].name == stages["union", 0].name
    assert [stage.kind for stage in lay_out(config).stages].count("fit") == 1


def test_sampler_of_an_arm_takes_the_place_of_the_classifiers(config):
    samplers = {name: stage.config["sampler"] for (name, _), stage in stages_of(config).items()}
    plain = {"name": "random", "shares": {}}
    assert samplers == {"real": plain, "mixed": SHARE, "both": SHARE, "union": plain}


# --- external generators ---------------------------------------------------------------------------------------------


def test_external_sets_are_sampled_from_a_pipeline_or_from_what_was_fine_tuned_of_it(external):
    stages = stages_of(external)
    as_it_is, adapted = (stages[name, 0].needs[0] for name in ("arm_", "arm_adapted"))
    assert as_it_is.config["pipeline"]["path"] == "public" and not as_it_is.needs
    assert adapted.config["pipeline"]["path"] == adapted.needs[0].name and adapted.needs[0].kind == "fit"
    assert {stage.config["data"]["source"] for stage in (as_it_is, adapted, adapted.needs[0])} == {"digits"}


def test_other_weights_under_a_path_make_other_stages_of_what_stands_on_them_alone(external):
    def names(content):
        def contents(job):
            return {"pipeline.path": content} if content and job.get("pipeline") == {"path": "public"} else {}

        return {(run.arm.name, run.seed): run.stage.name for run in lay_out(external, contents).runs}

    of_the_hub, before, after = names(""), names("one"), names("other")
    assert before == names("one")
    changed = {arm for (arm, _), name in after.items() if name not in before.values()}
    assert changed == {"arm_", "arm_adapted", "arm_whole", "arm_words", "two"}
    assert changed == {arm for (arm, _), name in after.items() if name not in of_the_hub.values()}


@pytest.mark.parametrize(("kind", "generator"), [("external.py", "g"), ("sample.py", "adapted"), ("sample.py", "")])
def test_set_from_a_generator_of_another_kind_is_refused(external, kind, generator):
    external["sets"]["set_"] = {"generator": generator, "config": kind}
    with pytest.raises(ValueError, match=r"config\.sets\.set_"):
        lay_out(external)


def needs_of_adapted(external, vary, seed):
    laid_out = lay_out({**external, "vary": vary})
    (sampled,) = next(run.stage for run in laid_out.runs if (run.arm.name, run.seed) == ("arm_adapted", seed)).needs
    (tuned,) = sampled.needs
    return laid_out, tuned, tuned.needs


def test_generator_waits_for_the_set_that_is_its_prior(external):
    external["generators"]["adapted"] = {"config": "tune.py", "method": {"prior": "set_"}}
    laid_out, tuned, (prior,) = needs_of_adapted(external, ("init", "draw", "generator"), 1)
    assert prior.kind == "sample" and tuned.config["method"]["prior"] == prior.name
    assert prior.config["seed"] == 1 and not prior.needs
    assert prior in stages_of({**external, "vary": ("init", "draw", "generator")})["arm_", 1].needs
    assert "with a prior" in laid_out.describe(tuned)
    _, same, (first,) = needs_of_adapted(external, ("init", "draw"), 1)  # of generators that do not vary: one prior
    assert first.config["seed"] == 0 and same.name == needs_of_adapted(external, ("init", "draw"), 0)[1].name


def test_prior_that_starts_from_real_images_is_of_the_generators_base_set(external):
    external["generators"]["adapted"] = {"config": "tune.py", "method": {"prior": "set_"}}
    external["sets"]["set_"]["from_real"] = True
    for seed in (0, 1):
        _, tuned, (prior,) = needs_of_adapted(external, ("init", "base"), seed)
        assert prior.config["data"]["base_seed"] == tuned.config["data"]["base_seed"] == seed


def test_prior_in_a_folder_is_no_stage(external):
    external["generators"]["adapted"] = {"config": "tune.py", "method": {"prior": "runs/prior"}}
    _, tuned, needs = needs_of_adapted(external, ("init", "draw"), 0)
    assert needs == () and tuned.config["method"]["prior"] == "runs/prior"


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ("set_adapted", "from itself, so each would wait for the other: expected images of the pipeline as it is"),
        ("set_words", "from words: expected"),
        ("lies", "of task 'imported', sampled from elsewhere"),
    ],
)
def test_prior_that_the_untouched_pipeline_did_not_sample_is_refused(external, prior, said):
    external["sets"]["lies"] = {"path": "there"}
    external["generators"]["adapted"] = {"config": "tune.py", "method": {"prior": prior}}
    with pytest.raises(ValueError, match=rf"generators\.adapted\.method\.prior names the set '{prior}'.*{said}"):
        lay_out(external)


# --- base sets -------------------------------------------------------------------------------------------------------


def test_arm_with_a_base_set_of_its_own_mixes_what_was_sampled_of_it(grid):
    """Unless its generator gives a base set itself, even that of the study."""
    needs = {name: stage.needs for (name, seed), stage in stages_of(grid).items() if seed == 0}
    for name, n_base in (("a_10", 10), ("a_100", 100), ("much_10", 100), ("much_100", 100)):
        (sampled,) = needs[name]
        assert sampled.needs[0].config["data"]["n_base"] == n_base
    assert needs["a_10"][0].needs == needs["b_10"][0].needs  # a generator for each base set, whatever samples from it
    assert needs["as_it_is_10"] == needs["as_it_is_100"]  # what no base set has a part in is sampled once


def test_base_set_that_the_command_line_gives_a_generator_wins_too(grid):
    grid["generators"]["much"] = {"config": "fit.py", "seed": 6, "own_base": True}
    (sampled,) = stages_of(grid)["much_10", 0].needs
    assert sampled.needs[0].config["data"]["n_base"] == 100
    grid["generators"]["much"]["own_base"] = False
    (sampled,) = stages_of(grid)["much_10", 0].needs
    assert sampled.needs[0].config["data"]["n_base"] == 10


def test_images_from_real_ones_are_sampled_for_each_base_set(grid):
    grid["sets"]["set_"]["from_real"] = True
    of_10, of_100 = (stages_of(grid)[f"as_it_is_{n}", 0].needs[0].config["data"]["n_base"] for n in (10, 100))
    assert (of_10, of_100) == (10, 100)


def test_diagnostic_compares_a_set_with_the_base_set_of_its_arm(grid):
    (gap,) = lay_out(grid).diagnostics
    assert gap.stage.config["data"]["n_base"] == gap.stage.needs[0].needs[0].config["data"]["n_base"] == 10
    grid["domains"]["gap"]["data"] = {"n_base": 100}
    (gap,) = lay_out(grid).diagnostics
    assert gap.stage.config["data"]["n_base"] == 100


# --- content ---------------------------------------------------------------------------------------------------------


def test_other_images_make_other_stages_of_those_that_read_them(config):
    """Test images: the classifiers alone. Base images: all."""

    def names(base, test):
        def contents(job):
            images = {"data.base": base} if "data" in job else {}
            return images | ({"data.test": test} if job["task"] == "classify" else {})

        return {stage.name for stage in lay_out(config, contents).stages}

    before = names("b", "t")
    assert {name.partition("-")[0] for name in names("b", "other") - before} == {"train"}
    assert len(names("b", "other") & before) == 1 + 4  # the generator, and two sets at two seeds
    assert not names("other", "t") & before


def test_place_of_the_images_counts_where_their_content_is_unknown_to_nobody(config):
    before = [stage.name for stage in lay_out(config).stages]
    config["data"]["path"] = "/elsewhere"
    assert [stage.name for stage in lay_out(config).stages] == before


# --- scores ----------------------------------------------------------------------------------------------------------


def test_scores_are_given_by_the_arms_classifier_of_the_same_seed_for_each_set(config):
    config["arms"] = (arm("scored", ("a", "b"), data={"scores": "sure"}), arm("real"))
    stages = stages_of(config)
    for seed in (0, 1):
        a, b, *scores = stages["scored", seed].needs
        assert [(s.kind, s.config["set"], s.config["checkpoint"]) for s in scores] == [
            ("score", sampled.name, stages["real", seed].name) for sampled in (a, b)
        ]
        assert stages["scored", seed].config["data"]["scores"] == tuple(s.name for s in scores)
        assert all(stages["real", seed] in s.needs for s in scores)


def test_each_set_may_have_a_score_of_its_own(config):
    config["scores"]["wide"] = {"arm": "real", "config": "score.py", "score": "margin"}
    config["arms"] = (arm("scored", ("a", "b"), data={"scores": ("sure", "wide")}), arm("real"))
    needs = stages_of(config)["scored", 0].needs
    assert [s.config["score"] for s in needs[2:]] == ["confidence", "margin"]
    assert [s.config["set"] for s in needs[2:]] == [need.name for need in needs[:2]]


def test_clip_scores_a_set_without_any_arms_classifier(config):
    config["scores"]["clip"] = {"config": "clip.py", "clip": "folder"}
    config["arms"] = (arm("scored", ("a",), data={"scores": "clip"}), arm("real"))
    for seed in (0, 1):
        sampled, scored = stages_of(config)["scored", seed].needs
        assert (scored.kind, scored.needs) == ("score", (sampled,))
        assert scored.config == {"task": "clip_score", "clip": "folder", "set": sampled.name}


def test_clip_score_that_names_an_arm_is_refused(config):
    config["scores"]["clip"] = {"arm": "real", "config": "clip.py", "clip": "folder"}
    config["arms"] = (arm("scored", ("a",), data={"scores": "clip"}), arm("real"))
    with pytest.raises(ValueError, match=r"scores\.clip\.arm is 'real'.*Leave the arm empty"):
        lay_out(config)


def test_arms_without_scores_do_not_wait_for_a_classifier(config):
    assert {need.kind for stage in stages_of(config).values() for need in stage.needs} == {"sample"}


def test_set_that_starts_from_hard_images_waits_for_who_says_which_are(external):
    external["scores"]["late"] = {"arm": "real", "config": "score.py", "folds": 2, "part": 0.2}
    for name in ("set_", "set_adapted"):
        external["sets"][name] |= {"from_real": True, "hard": {"scores": "late"}}
    stages = stages_of(external)
    for seed in (0, 1):
        (alone,), (tuned,) = (stages[f"arm_{name}", seed].needs for name in ("", "adapted"))
        (scored,) = alone.needs
        assert (scored.kind, scored.config["set"], scored.config["part"]) == ("score", "", 0.2)
        assert scored.needs == (stages["real", seed],) and scored.config["checkpoint"] == stages["real", seed].name
        assert alone.config["hard"] == tuned.config["hard"] == {"scores": scored.name, "part": 0.4}
        assert [need.kind for need in tuned.needs] == ["fit", "score"]
    assert lay_out(external).describe(scored) == "score confidence of real images by real, seed 1, 20% of it"


@pytest.mark.parametrize(
    "change",
    [
        {"arm": "mixed"},  # which may have seen children of what it would be asked about
        {"folds": 0},
        {"config": "clip.py", "clip": "folder"},
    ],
)
def test_scores_that_cannot_say_what_is_hard_are_refused(external, change):
    late = {"arm": "real", "config": "score.py", "folds": 2} | change
    external["scores"]["late"] = {k: v for k, v in late.items() if k != "folds" or "clip" not in change}
    external["sets"]["set_"] |= {"from_real": True, "hard": {"scores": "late"}}
    with pytest.raises(ValueError, match=r"sets\.set_\.hard\.scores names 'late', which is to score the base set"):
        lay_out(external)


# --- arms that begin as another --------------------------------------------------------------------------------------


def test_arm_begins_as_the_classifier_of_another_at_its_seed(started):
    stages = stages_of(started)
    for seed in (0, 1):
        for name, before in (("last", "middle"), ("middle", "first")):
            stage = stages[name, seed]
            assert stage.needs[-1] == stages[before, seed]
            assert stage.config["method"]["pretrained"] == stages[before, seed].name
        assert stages["real", seed].config["method"]["pretrained"] == ""
    assert [need.kind for need in stages["last", 0].needs] == ["sample", "train"]


@pytest.mark.parametrize(
    ("first", "words"), [("last", r"'middle', 'first'.*wait for each other"), ("bogus", "'bogus'")]
)
def test_arms_that_begin_as_each_other_or_as_nobody_are_refused(started, first, words):
    started["arms"][3]["start"] = first
    with pytest.raises(ValueError, match=words):
        lay_out(started)


# --- diagnostics -----------------------------------------------------------------------------------------------------


def test_diagnostics_are_stages_of_their_set_at_their_seed(diagnosed):
    for one in lay_out(diagnosed).diagnostics:
        assert one.stage.kind == one.stage.config["task"] == DIAGNOSTICS[one.table][0]
        sampled = one.stage.needs[0]
        assert one.stage.config["set"] == sampled.name
        assert sampled.config["name"] == one.set and sampled.config["seed"] == one.seed
        assert one.stage.config["data"]["source"] == "digits"
        assert one.stage.config.get("seed", one.seed) == one.seed


def test_diagnostics_are_given_the_classifier_of_their_arm_at_their_seed_or_none(diagnosed):
    real = stages_of(diagnosed)["real", 0]
    gap, alone, _, near, pixels = (one.stage for one in lay_out(diagnosed).diagnostics)
    assert gap.config["classifier"] == near.config["extractor"]["path"] == real.name
    assert gap.needs[1] == near.needs[1] == real
    assert alone.config["classifier"] == pixels.config["extractor"]["path"] == ""
    assert len(alone.needs) == len(pixels.needs) == 1


def test_domain_scores_the_sets_of_an_arm_at_every_seed(diagnosed):
    diagnosed["arms"] = (arm("real"), arm("ratio", ("a",), data={"scores": "gap"}))
    stages = stages_of(diagnosed)
    for seed in (0, 1):
        sampled, scored = stages["ratio", seed].needs
        assert (scored.kind, scored.config["set"], scored.config["seed"]) == ("domain", sampled.name, seed)
        assert stages["ratio", seed].config["data"]["scores"] == (scored.name,)
    shown = next(one.stage for one in lay_out(diagnosed).diagnostics if one.name == "gap")
    assert shown.name == stages["ratio", 0].needs[1].name  # computed once for both


def test_imported_set_is_one_stage_for_all_seeds_and_base_sets_and_the_generator_of_its_rows(grid):
    grid |= {"seeds": (0, 1), "vary": ("init", "draw", "base")}
    grid["sets"]["lies"] = {"path": "there"}
    grid["arms"] += tuple(arm(f"lies_{n}", ("lies",), data={"n_base": n}) for n in (10, 100))
    laid_out = lay_out(grid)
    runs = [run for run in laid_out.runs if run.arm.sets == ("lies",)]
    assert len(runs) == 4 and len({run.stage.needs[0].name for run in runs}) == 1
    assert {run.arm.generators for run in runs} == {("lies",)} and {run.fine_tuning for run in runs} == {"none"}
    (stage,) = runs[0].stage.needs
    assert stage.needs == () and laid_out.describe(stage) == "import lies"
