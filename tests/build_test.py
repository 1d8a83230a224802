"""The composition root: sections become objects, and what is misspelt, missing or dead is refused by name."""

import dataclasses

import numpy as np
import pytest

from jaxmoust import build
from jaxmoust.config import read_config
from jaxmoust.core.diffusion.methods import DDPM, EDM
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.share import Share
from jaxmoust.data.samplers.shuffle import Random
from jaxmoust.data.source import Lineage, from_arrays
from jaxmoust.jobs.parts.configure import as_config
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


# --- sections --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS.values())
def test_every_section_refuses_a_field_that_nobody_would_read(config):
    complete = as_config(config)
    with pytest.raises(ValueError, match="config has no field 'bogus'"):
        as_config(complete, {"bogus": 1})
    for section in (name for name, value in complete.items() if isinstance(value, dict)):
        with pytest.raises(ValueError, match=rf"config\.{section} has no field 'bogus'"):
            as_config(complete, {section: {"bogus": 1}})


@pytest.mark.parametrize("config", CONFIGS.values())
def test_complete_configuration_is_what_its_makers_take(config):
    """Every field has a value, and completing once more changes none."""
    complete = as_config(config)
    assert as_config(complete) == complete


@pytest.mark.parametrize(("verb", "field"), [("fit", "source"), ("train", "source")])
def test_section_without_a_field_that_has_no_default_is_refused(verb, field):
    config = dict(read_config(CONFIGS[verb]))
    config["data"] = {k: v for k, v in config["data"].items() if k != field}
    with pytest.raises(ValueError, match=rf"config\.data\.{field} is missing"):
        as_config(config)


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
    "children": {"p": 0.25},
}


@pytest.fixture(scope="module")
def pool():
    labels = {"real": np.arange(10) % 3 // 2, "edm": np.arange(20) % 2}
    real, made = (from_arrays(np.zeros((len(of), 2, 2, 1), np.uint8), of, name=name) for name, of in labels.items())
    return Pool.from_sources([real, dataclasses.replace(made, lineage=Lineage(real.digest, np.arange(20) % 10))])


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


def test_make_sampler_reads_shares():
    pool = Pool.from_labels({"real": np.arange(10), "edm": np.arange(10)})
    assert build.make_sampler({"name": "random"}, pool, 3, 100) == Random(pool, 3)
    shares = {"real": 0.25, "edm": 0.75}
    assert build.make_sampler({"name": "share", "shares": shares}, pool, 3, 100) == Share(pool, shares, 3)


def test_make_module_refuses_what_is_not_in_its_table():
    section = {"name": "unet", "dtype": "bfloat16", "base_channels": 8}
    made = build.make_module(section, build.GENERATOR_MODELS, out_channels=1, num_classes=2)
    assert isinstance(made, UNet) and made.dtype == build.DTYPES["bfloat16"]
    with pytest.raises(ValueError, match=r"config\.model\.name is 'unet', expected one of backbone, resnet"):
        build.make_module(section, build.CLASSIFIER_MODELS, num_classes=2)


def test_make_diffuse_and_make_classify_build_what_the_files_say():
    generator = build.make_diffuse(as_config(CONFIGS["fit"]), (8, 8, 1), 10)
    assert isinstance(generator.model, UNet) and isinstance(generator.method, EDM)
    assert (generator.model.out_channels, generator.model.num_classes) == (1, 10)
    classifier = build.make_classify(as_config(CONFIGS["train"]), (8, 8, 1), 10)
    assert isinstance(classifier.model, ResNet) and classifier.model.axis_name == parallel.AXIS
    assert build.make_classify(as_config(CONFIGS["train"]), (8, 8, 1), 10) == classifier


def test_make_training_refuses_images_that_the_network_cannot_take():
    config = as_config(CONFIGS["fit"])
    machine = parallel.Machine.all()
    build.make_training(build.make_diffuse, config, (8, 8, 1), 10, (), machine)
    with pytest.raises(ValueError, match=r"9x9 px.*divisible by 2"):
        build.make_training(build.make_diffuse, config, (9, 9, 1), 10, (), machine)


def test_make_training_refuses_blocks_that_label_mixing_cannot_share_over_devices():
    """Partners are drawn inside blocks of 8 examples of one device; 4 devices with 4 examples each have none."""
    config = as_config(CONFIGS["train"], {"augment": {"mixup": 0.2}, "train": {"batch_size": 16}})
    with pytest.raises(ValueError, match=r"got 4 examples on a device.*multiple of 8"):
        build.make_training(build.make_classify, config, (8, 8, 1), 10, (), parallel.Machine.all())


def test_make_sampling_needs_label_dropout_for_guidance():
    section = {"solver": "heun", "num_steps": 4, "guidance": 2.0}
    with pytest.raises(ValueError, match=r"guidance 2\.0.*label_dropout"):
        build.make_sampling(section, EDM(), label_dropout=0.0)
    assert build.make_sampling(section, EDM(), label_dropout=0.1).guidance == 2.0
    assert build.make_sampling({**section, "guidance": 1.0}, EDM(), label_dropout=0.0).guidance == 1.0


def test_make_sampling_refuses_more_levels_than_the_method_has():
    with pytest.raises(ValueError, match="1001"):
        build.make_sampling({"solver": "euler", "num_steps": 1001}, DDPM(), label_dropout=0.0)
