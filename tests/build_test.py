"""The composition root: sections become objects, and what is misspelt, missing or dead is refused by name."""

import sys
import types

import ml_collections
import numpy as np
import pytest

from jaxmoust import build, jobs
from jaxmoust.core.diffusion.methods import DDPM, EDM
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.share import Share
from jaxmoust.data.samplers.shuffle import Random
from jaxmoust.data.sources import registry as sources
from jaxmoust.models.classifiers.resnet import ResNet
from jaxmoust.models.unet.unet import UNet
from jaxmoust.runtime import parallel

CONFIGS = {
    "fit": "configs/generator/digits_edm.py:quick",
    "sample": "configs/sample/edm.py:quick",
    "train": "configs/classifier/digits_resnet.py:quick",
    "evaluate": "configs/evaluate.py",
}


@pytest.fixture(autouse=True)
def in_the_repository(request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)


# --- reading and changing configurations -----------------------------------------------------------------------------


def test_load_config_hands_over_the_argument(tmp_path):
    file = tmp_path / "config.py"
    file.write_text("def get_config(arg=''):\n    return dict(arg=arg, sizes=[1, [2]])\n")
    assert build.load_config(f"{file}:a=b,c") == {"arg": "a=b,c", "sizes": (1, (2,))}
    assert build.load_config(str(file))["arg"] == ""


CONFIG_WITH_NEIGHBOURS = """
import neighbour

def get_config(arg=""):
    import later
    return {"a": neighbour.NAME, "b": later.B}
"""


def test_configuration_imports_the_files_beside_it_and_leaves_no_trace(tmp_path, monkeypatch):
    """Two folders with a file of one name: each configuration reads its own, and as it is now."""
    monkeypatch.setitem(sys.modules, "neighbour", types.ModuleType("neighbour"))
    before, path = dict(sys.modules), list(sys.path)
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "neighbour.py").write_text(f"NAME = {folder!r}")
        (tmp_path / folder / "later.py").write_text("B = 1")
        (tmp_path / folder / "config.py").write_text(CONFIG_WITH_NEIGHBOURS)
        assert build.load_config(str(tmp_path / folder / "config.py")) == {"a": folder, "b": 1}
    (tmp_path / "one" / "neighbour.py").write_text("NAME = 'changed since'")
    assert build.load_config(str(tmp_path / "one" / "config.py"))["a"] == "changed since"
    assert sys.modules["neighbour"] is before["neighbour"] and "later" not in sys.modules and sys.path == path


def test_load_config_refuses_what_is_no_configuration(tmp_path):
    with pytest.raises(ValueError, match=r"No configuration file .*none\.py.*configs/"):
        build.load_config(str(tmp_path / "none.py"))
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ValueError, match="defines no get_config"):
        build.load_config(str(tmp_path / "empty.py"))


def test_plain_leaves_dicts_and_tuples_alone():
    config = ml_collections.ConfigDict({"a": {"b": [1, {"c": 2}]}, "d": ()})
    assert build.plain(config) == {"a": {"b": (1, {"c": 2})}, "d": ()}
    assert type(build.plain(config)["a"]) is dict


def test_override_replaces_leaves_and_keeps_the_rest():
    config = {"a": {"b": 1, "c": (2,)}, "d": 3}
    assert build.override(config, {"a": {"c": [4]}}) == {"a": {"b": 1, "c": (4,)}, "d": 3}
    assert config == {"a": {"b": 1, "c": (2,)}, "d": 3}


def test_override_refuses_a_field_that_does_not_exist_by_its_path():
    with pytest.raises(ValueError, match=r"experiment\.arm\.a has no field x, y.*Allowed: b"):
        build.override({"a": {"b": 1}}, {"a": {"y": 1, "x": 2}}, "experiment.arm")


# --- sections --------------------------------------------------------------------------------------------------------


def test_unpack_names_unknown_and_missing_fields():
    def make(needed, given, optional=1):
        return needed, given, optional

    assert build.unpack("part", make, {"needed": 1}, given=2) == (1, 2, 1)
    with pytest.raises(ValueError, match=r"config\.part has unknown fields \['bogus'\] and lacks \['needed'\]"):
        build.unpack("part", make, {"bogus": 1}, given=2)
    with pytest.raises(ValueError, match=r"unknown fields \['given'\]"):
        build.unpack("part", make, {"needed": 1, "given": 3}, given=2)


@pytest.mark.parametrize("fields", [{"name": "bogus"}, {}, {"name": None}])
def test_choose_refuses_a_name_that_is_not_in_the_table(fields):
    with pytest.raises(ValueError, match=r"config\.part\.name is .*; allowed are one, two"):
        build.choose("part", {"two": 2, "one": 1}, fields)


@pytest.mark.parametrize("verb", CONFIGS)
def test_every_section_refuses_a_field_that_nobody_would_read(verb, quick_study):
    """A job is built, not run, for each section with one field too many: it must say which."""
    config = build.load_config(CONFIGS[verb])
    config |= {"generator": quick_study.generator} if verb == "sample" else {}
    config |= {"checkpoint": quick_study.classifier} if verb == "evaluate" else {}
    jobs.JOBS[verb](config)  # as it is, it is accepted
    with pytest.raises(ValueError, match=r"unknown .*'bogus'"):
        jobs.JOBS[verb]({**config, "bogus": {}})
    for section in (name for name, value in config.items() if isinstance(value, dict)):
        with pytest.raises(ValueError, match=rf"config\.{section} has unknown fields \['bogus'\]"):
            jobs.JOBS[verb]({**config, section: {**config[section], "bogus": 1}})


@pytest.mark.parametrize("verb", CONFIGS)
def test_every_section_is_needed(verb):
    config = build.load_config(CONFIGS[verb])
    for section in set(config) - {"task"}:
        with pytest.raises(ValueError, match=rf"lacks \['{section}'\]"):
            jobs.JOBS[verb]({k: v for k, v in config.items() if k != section})
    with pytest.raises(ValueError, match=r"config\.task is None"):
        jobs.JOBS[verb]({k: v for k, v in config.items() if k != "task"})


@pytest.mark.parametrize(
    "verb, section, field",
    [
        ("fit", "data", "source"),
        ("fit", "train", "batch_size"),
        ("fit", "train", "num_steps"),
        ("fit", "eval", "batch_size"),
        ("train", "data", "synthetic"),
        ("train", "data", "n_synthetic"),
        ("train", "eval", "batch_size"),
    ],
)
def test_section_without_a_field_that_has_no_default_is_refused(verb, section, field):
    config = build.load_config(CONFIGS[verb])
    fields = {k: v for k, v in config[section].items() if k != field}
    with pytest.raises(ValueError, match=rf"lacks \['{field}'\]"):
        jobs.JOBS[verb]({**config, section: fields})


# --- data ------------------------------------------------------------------------------------------------------------


def test_real_data_splits_the_training_images_into_base_and_unused():
    real, train = build.real_data("digits", n_base=100), sources.digits("train")
    assert (len(real.base), len(real.unused), len(real.test), real.shape) == (100, 900, 797, (8, 8, 1))
    assert real.base.name == "real"
    np.testing.assert_array_equal(real.base.class_counts(), np.full(10, 10))
    union = np.concatenate([real.base.images(np.arange(100)), real.unused.images(np.arange(900))])
    everything = train.images(np.arange(1000))
    assert sorted(map(bytes, union)) == sorted(map(bytes, everything))


@pytest.mark.parametrize("field", [{"copies": 0}, {"random_crop": 1.5}, {"test_crop": 0.0}, {"test_crop": 1.1}])
def test_real_data_refuses_crops_and_copies_out_of_range(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        build.real_data("digits", **field)


def test_real_data_copies_repeat_every_base_image():
    once, thrice = build.real_data("digits", n_base=20), build.real_data("digits", n_base=20, copies=3)
    np.testing.assert_array_equal(thrice.base.labels, np.tile(once.base.labels, 3))
    np.testing.assert_array_equal(thrice.base.images(np.arange(40, 60)), once.base.images(np.arange(20)))


def test_real_data_imbalanced_is_a_part_of_the_balanced_base_set():
    whole = build.real_data("digits", n_per_class=50)
    cut = build.real_data("digits", n_per_class=50, imbalance="step", imbalance_ratio=5.0)
    assert cut.base.class_counts().tolist() == [50] * 5 + [10] * 5
    assert whole.base.class_counts().tolist() == [50] * 10
    images = [set(map(bytes, real.base.images(np.arange(len(real.base))))) for real in (cut, whole)]
    assert images[0] < images[1] and len(cut.base) + len(cut.unused) == 1000


def test_real_data_without_the_fields_of_imbalance_means_what_it_did():
    """The address of a base set that published runs on digits stand on."""
    assert build.real_data("digits", n_base=100).base.digest == GOLDEN_BASE
    assert build.real_data("digits", n_per_class=10).base.digest == GOLDEN_BASE


def test_real_data_of_a_class_list_holds_these_classes_in_both_splits(tmp_path):
    (tmp_path / "list.txt").write_text("9\n4\n")
    real = build.real_data("digits", n_base=20, classes=str(tmp_path / "list.txt"))
    assert real.base.class_names == real.test.class_names == ("9", "4")
    assert real.base.class_counts().tolist() == [10, 10]
    nine = sources.digits("train").images(np.flatnonzero(sources.digits("train").labels == 9))
    assert set(map(bytes, real.base.images(np.flatnonzero(real.base.labels == 0)))) <= set(map(bytes, nine))


def test_real_data_refuses_two_sizes():
    with pytest.raises(ValueError, match="n_base=100 and n_per_class=10, allowed is one"):
        build.real_data("digits", n_base=100, n_per_class=10)


def test_real_data_of_the_whole_split_leaves_nothing_unused():
    assert build.real_data("digits").unused is None


@pytest.mark.parametrize(
    "shape, image_px, channels, expected",
    [
        ((8, 8, 1), 0, 0, (8, 8, 1)),
        ((8, 8, 1), 32, 3, (32, 32, 3)),
        ((8, 9, 3), 8, 0, (8, 8, 3)),
        (None, 8, 1, (8, 8, 1)),
    ],
)
def test_shape_of_is_the_images_own_unless_asked_otherwise(shape, image_px, channels, expected):
    assert build.shape_of(types.SimpleNamespace(shape=shape, name="x"), image_px, channels) == expected


@pytest.mark.parametrize(
    "shape, image_px, channels", [((8, 9, 1), 0, 0), (None, 8, 0), (None, 0, 1), ((8, 8, 1), -1, 0)]
)
def test_shape_of_refuses_what_has_no_one_square_shape(shape, image_px, channels):
    with pytest.raises(ValueError, match="image_px"):
        build.shape_of(types.SimpleNamespace(shape=shape, name="x"), image_px, channels)


def test_open_set_takes_the_first_images(quick_study):
    real = sources.digits("train")
    assert len(build.open_set(quick_study.made, real)) == 40
    some = build.open_set(quick_study.made, real, 12)
    np.testing.assert_array_equal(some.labels, np.arange(12) % 10)
    with pytest.raises(ValueError, match="n_synthetic 41"):
        build.open_set(quick_study.made, real, 41)


# --- samplers, networks, training ------------------------------------------------------------------------------------


HALF = {"real": 0.5, "edm": 0.5}
SECTIONS = {
    "random": {},
    "share": {"shares": HALF},
    "class_power": {"power": 0.5, "shares": HALF},
    "effective_number": {"beta": 0.9},
    "progressive": {},
    "weighted": {"weights": {"real": 2.0, "edm": "scores"}, "power": 2.0, "shares": HALF},
    "ramp": {"start": 0.0, "end": 1.0, "shape": "cosine"},
    "levels": {"order": ("edm",), "real_part": 0.25},
    "stages": {"stages": ((0.5, {"edm": 1.0}), (0.5, HALF))},
    "easy_to_hard": {"start": 0.3, "shares": HALF},
}


@pytest.fixture(scope="module")
def pool():
    return Pool.from_labels({"real": np.arange(10) % 3 // 2, "edm": np.arange(20) % 2})


def test_every_sampler_that_a_configuration_may_name_is_tried_here():
    assert set(SECTIONS) == set(build.SAMPLERS)


@pytest.mark.parametrize("name", SECTIONS)
def test_make_sampler_builds_what_is_named(name, pool):
    scores = {"edm": np.linspace(0.1, 0.9, 20)}
    sampler = build.make_sampler({"name": name, **SECTIONS[name]}, pool, 3, 1000, scores)
    assert sampler.pool is pool and sampler.seed == 3
    assert sampler.expected(0, 1000).sum() == pytest.approx(1000)
    with pytest.raises(ValueError, match=r"config\.sampler has unknown fields \['bogus'\]"):
        build.make_sampler({"name": name, **SECTIONS[name], "bogus": 1}, pool, 3, 1000, scores)


def test_make_sampler_follows_the_length_of_training(pool):
    for name in ("progressive", "ramp", "levels", "stages"):
        short, long = (build.make_sampler({"name": name, **SECTIONS[name]}, pool, 0, n) for n in (100, 1000))
        assert not np.allclose(short.expected(80, 90), long.expected(80, 90)), name


def test_make_sampler_weighs_images_by_powers_of_their_scores(pool):
    scores = {"edm": np.linspace(0.1, 0.9, 20)}
    section = {"name": "weighted", "weights": {"real": 0.0, "edm": "scores"}, "power": 2.0}
    mass = scores["edm"] ** 2 / np.sum(scores["edm"] ** 2)
    expected = build.make_sampler(section, pool, 0, 100, scores).expected(0, 1)
    np.testing.assert_allclose(expected, [[0, 0], [mass[::2].sum(), mass[1::2].sum()]])


@pytest.mark.parametrize("name", ["weighted", "easy_to_hard"])
def test_make_sampler_refuses_to_follow_scores_that_nobody_gave(name, pool):
    with pytest.raises(ValueError, match=r"scores.*jaxmoust score"):
        build.make_sampler({"name": name, **SECTIONS[name]}, pool, 3, 1000)


def test_make_sampler_refuses_a_power_of_nothing(pool):
    with pytest.raises(ValueError, match=r"power is what scores are raised to"):
        build.make_sampler({"name": "weighted", "weights": {"real": 1.0, "edm": 2.0}, "power": 2.0}, pool, 3, 1000)


def test_filtered_drops_the_lowest_part_of_what_is_scored(pool):
    scores = {"edm": np.arange(20.0)}
    assert build.filtered(pool, 0.0, True, {}) is pool
    np.testing.assert_array_equal(build.filtered(pool, 0.2, False, scores).kept, [*range(10), *range(14, 30)])
    with pytest.raises(ValueError, match=r"drop_lowest 0\.2 needs scores"):
        build.filtered(pool, 0.2, False, {})


def test_filtered_keeps_what_is_scored_above_a_number_or_above_a_guess(pool):
    scores, num_classes = {"edm": np.linspace(0.0, 1.0, 20)}, len(pool.class_names)
    for keep_above, level in (("0.5", 0.5), (0.5, 0.5), ("1/C", 1 / num_classes)):
        kept = build.filtered(pool, 0.0, True, scores, keep_above).kept
        np.testing.assert_array_equal(kept, [*range(10), *(10 + np.flatnonzero(scores["edm"] > level))])
    assert build.filtered(pool, 0.0, True, {}, "") is pool


@pytest.mark.parametrize(
    ("drop_lowest", "keep_above", "scores", "said"),
    [
        (0.0, "1/D", {"edm": np.ones(20)}, r"keep_above '1/D'.*1/C"),
        (0.0, "nan", {"edm": np.ones(20)}, r"keep_above 'nan'"),
        (0.0, "0.5", {}, r"keep_above '0\.5' needs scores"),
        (0.2, "0.5", {"edm": np.ones(20)}, "one of the two"),
        (0.0, "2", {"edm": np.ones(20)}, "the highest is 1"),
    ],
)
def test_filtered_refuses_a_threshold_that_cannot_be_meant(pool, drop_lowest, keep_above, scores, said):
    with pytest.raises(ValueError, match=said):
        build.filtered(pool, drop_lowest, True, scores, keep_above)


def test_make_sampler_reads_shares_as_a_mapping_or_a_text():
    pool = Pool.from_labels({"real": np.arange(10), "edm": np.arange(10)})
    assert build.make_sampler({"name": "random"}, pool, 3, 100) == Random(pool, 3)
    for shares in ({"real": 0.25, "edm": 0.75}, "real=0.25,edm=0.75", "real = 0.25, edm = 0.75"):
        made = build.make_sampler({"name": "share", "shares": shares}, pool, 3, 100)
        assert made == Share(pool, {"real": 0.25, "edm": 0.75}, 3)
    for shares in ("real", "real=half", "real=0.5=0.5", ""):
        with pytest.raises(ValueError, match="NAME=SHARE"):
            build.make_sampler({"name": "share", "shares": shares}, pool, 3, 100)


def test_make_module_refuses_what_is_not_in_its_table():
    section = {"name": "unet", "dtype": "bfloat16", "base_channels": 8}
    made = build.make_module(section, build.GENERATOR_MODELS, out_channels=1, num_classes=2)
    assert isinstance(made, UNet) and made.dtype == build.DTYPES["bfloat16"]
    with pytest.raises(ValueError, match=r"config\.model\.name is 'unet'; allowed are resnet"):
        build.make_module(section, build.CLASSIFIER_MODELS, num_classes=2)
    with pytest.raises(ValueError, match=r"config\.model\.dtype is 'float8'"):
        build.make_module({**section, "dtype": "float8"}, build.GENERATOR_MODELS, out_channels=1, num_classes=2)


def test_make_diffuse_and_make_classify_build_what_the_files_say():
    generator = build.make_diffuse(build.load_config(CONFIGS["fit"]), (8, 8, 1), 10)
    assert isinstance(generator.model, UNet) and isinstance(generator.method, EDM)
    assert (generator.model.out_channels, generator.model.num_classes) == (1, 10)
    classifier = build.make_classify(build.load_config(CONFIGS["train"]), (8, 8, 1), 10)
    assert isinstance(classifier.model, ResNet) and classifier.model.axis_name == parallel.AXIS
    assert build.make_classify(build.load_config(CONFIGS["train"]), (8, 8, 1), 10) == classifier


def test_make_training_refuses_images_that_the_network_cannot_take():
    config = build.load_config(CONFIGS["fit"])
    machine = parallel.Machine.all()
    build.make_training(build.make_diffuse, config, (8, 8, 1), 10, (), machine)
    with pytest.raises(ValueError, match=r"9x9 px.*divisible by 2"):
        build.make_training(build.make_diffuse, config, (9, 9, 1), 10, (), machine)


def test_make_training_refuses_blocks_that_label_mixing_cannot_share_over_devices():
    """Partners are drawn inside blocks of 8 examples of one device; 4 devices with 4 examples each have none."""
    config = build.load_config(CONFIGS["train"])
    config["augment"] = {"mixup": 0.2}
    config["train"] = {**config["train"], "batch_size": 16}
    with pytest.raises(ValueError, match=r"got 4 examples on a device.*multiple of 8"):
        build.make_training(build.make_classify, config, (8, 8, 1), 10, (), parallel.Machine.all())


def test_make_sampling_needs_label_dropout_for_guidance():
    section = {"sampler": "heun", "num_steps": 4, "guidance": 2.0}
    with pytest.raises(ValueError, match=r"guidance 2\.0.*label_dropout"):
        build.make_sampling(section, EDM(), label_dropout=0.0)
    assert build.make_sampling(section, EDM(), label_dropout=0.1).guidance == 2.0
    assert build.make_sampling({**section, "guidance": 1.0}, EDM(), label_dropout=0.0).guidance == 1.0


def test_make_sampling_refuses_more_levels_than_the_method_has():
    with pytest.raises(ValueError, match="1001"):
        build.make_sampling({"sampler": "euler", "num_steps": 1001}, DDPM(), label_dropout=0.0)


GOLDEN_BASE = "2c5146de288ebacb40ee3d701421281a"
