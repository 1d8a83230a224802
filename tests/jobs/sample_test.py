"""Laws of jobs/sample.py: whose set may be sampled, what is mended, and who can open it."""

import json
import re

import numpy as np
import pytest
from command_line import assert_refused, contents

from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.jobs.parts.job import do
from jaxmoust.runtime import parallel


@pytest.fixture(scope="module")
def other(quick_study, tmp_path_factory):
    """Generators of other images, as far as anything that is refused reads of them."""

    def write(name, **changes):
        folder = tmp_path_factory.mktemp(name)
        for file in ("config.json", "result.json"):
            content = json.loads((quick_study.generator / file).read_text())
            (folder / file).write_text(json.dumps({**content, **(changes if file == "result.json" else {})}))
        return folder

    return write


def test_generator_that_cannot_be_used_is_refused(cli, quick_study, other, tmp_path):
    other_data, other_classes = other("data", data_digest="0"), other("classes", class_names=["cat", "dog"])
    line = "sample --config=configs/sample/{sample}.py:quick --config.generator={generator} --workdir={work} "

    def sample(generator, overrides="", sample="edm"):
        return cli(line + overrides, generator=generator, work=tmp_path / "work", sample=sample)

    edm, ddpm = quick_study.generator, quick_study.stage("fit", method="ddpm")
    assert_refused(sample(tmp_path / "none"), str(tmp_path / "none"), "no finished", "jaxmoust fit")
    assert_refused(sample(quick_study.classifier), "no finished", "jaxmoust fit")
    assert_refused(sample(edm, "--config.sample.guidance=2.0"), "guidance 2.0", "method.label_dropout", "guidance=1.0")
    assert_refused(sample(edm, "--config.sample.solver=bogus"), "'bogus'", "euler")
    assert_refused(sample(edm, "--config.num_images=0"), "num_images=0")
    assert_refused(sample(edm, "--config.sample.num_steps=1000000000"), "1 to 100,000")
    assert_refused(sample(edm, "--config.sample.per_device_batch=1000000000000"), "sample.per_device_batch", "GiB")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel.Machine, "memory_bytes", 64 * 600)
        words = "--config.num_images=1000 --config.sample.per_device_batch=4 --config.shard_images=900"
        assert_refused(sample(edm, words), "A file of shard_images 900", "cannot hold")
    guided = "--config.autoguidance={weaker} --config.sample.guidance="
    assert_refused(sample(edm, guided.format(weaker=ddpm) + "1"), "sample.guidance 1.0", "config.autoguidance")
    assert_refused(sample(edm, guided.format(weaker=tmp_path / "none") + "2"), "no finished")
    assert_refused(sample(edm, guided.format(weaker=other_data) + "2"), "another data_digest", "config.autoguidance")
    assert_refused(sample(edm, guided.format(weaker=other_classes) + "2"), "another class_names", "['0', '1'")
    assert_refused(sample(edm, "--config.ema=123"), "config.ema 123", "10000 is kept", "optim.ema_others")
    assert_refused(sample(edm, "--config.name=Upper"), "name='Upper'", "lower case")
    assert_refused(sample(edm, "--config.seed=-1"), "seed -1")
    assert_refused(sample(ddpm, "--config.sample.num_steps=1001", "ddim"), "1001", "1000")
    assert contents(tmp_path) == {}


def test_sample_takes_the_average_that_is_asked_for_and_is_guided_by_a_weaker_generator(cli, quick_study, tmp_path):
    small = "--config.model.base_channels=4 --config.model.channel_multipliers=1, --config.optim.ema_others=5,1e6"
    line = f"fit --config=configs/generator/digits_edm.py:quick --workdir={tmp_path}/fit {small}"
    assert cli(line).code == 0
    found = {}
    for name, words in {
        "own": "--config.ema=10000",
        "none": "",
        "other": "--config.ema=5",
        "guided": f"--config.autoguidance={quick_study.generator} --config.sample.guidance=2",
    }.items():
        line = f"sample --config=configs/sample/edm.py:quick --config.generator={tmp_path}/fit {words}"
        assert cli(f"{line} --workdir={tmp_path}/{name}").code == 0
        found[name] = json.loads((tmp_path / name / "result.json").read_text())["generator"]
    assert found["own"] == found["none"] and len({*found.values()}) == 3


def test_sample_fills_in_shards_that_a_finished_set_has_lost(cli, quick_study, tmp_path):
    line = f"sample --config=configs/sample/edm.py:quick --config.generator={quick_study.generator} --workdir={{work}}"
    assert cli(line, work=tmp_path / "set").code == 0
    (shard,) = (tmp_path / "set").glob("*.array_record-00000-of-*")
    whole = shard.read_bytes()
    shard.unlink()
    assert cli(line, work=tmp_path / "set").code == 0
    assert shard.read_bytes() == whole


def test_set_that_tasks_write_in_parts_is_that_of_one_and_says_where_its_generator_was_trained(quick_study, tmp_path):
    changes = {"generator": str(quick_study.generator), "shard_images": 10}
    config = as_config("configs/sample/edm.py:quick", changes)
    for folder, parts in (("one", [None]), ("two", [(1, 2), (0, 2), None])):
        outcomes = [do(config, tmp_path / folder, part=part) for part in parts]
    one, two = (tmp_path / name for name in ("one", "two"))
    provenance = json.loads((one / "provenance.json").read_text())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in (*provenance["files"], "spec.json"))
    assert json.loads((two / "provenance.json").read_text()) == provenance
    assert outcomes[2].result["seconds"] > outcomes[0].result["seconds"] + outcomes[1].result["seconds"]
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    trained_on = json.loads((quick_study.generator / "result.json").read_text())["trained_on"]
    assert provenance["trained_on"] == trained_on and re.fullmatch(r"\d x \w+ \(cpu, \d+ cores\)", trained_on)


def test_sample_opens_in_plain_tfds(quick_study):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(quick_study.made))
    examples = builder.as_data_source(split="train")
    assert len(examples) == 40
    assert builder.info.features["label"].names == [str(k) for k in range(10)]
    for i in (0, 25, 39):
        example = examples[i]
        assert example["image"].shape == (8, 8, 1) and example["image"].dtype == np.uint8
        assert (example["label"], example["index"], example["seed"]) == (i % 10, i // 10, 0)
        assert example["generator"].decode() == json.loads((quick_study.made / "result.json").read_text())["generator"]
