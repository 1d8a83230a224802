"""Laws of jobs/finetune.py and jobs/parts/pipelines.py: what a fine-tuning leaves is what is drawn from."""

import gc
import json
import re
import weakref
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_stable_diffusion
from PIL import Image

from jaxmoust.core.tree import named_leaves
from jaxmoust.data.sources.registry import open_source
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.data.synthetic.store import open_synthetic, read_labelled, read_spec
from jaxmoust.generate import text_to_image
from jaxmoust.jobs import finetune
from jaxmoust.jobs.finetune import new_words
from jaxmoust.jobs.parts import pipelines
from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.jobs.parts.inputs import Inputs, Output
from jaxmoust.jobs.parts.job import do
from jaxmoust.jobs.parts.registry import BadInput
from jaxmoust.jobs.parts.streams import run_fit
from jaxmoust.jobs.text_to_image import TextToImage
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import lora
from jaxmoust.runtime import stop
from jaxmoust.runtime.parallel import Machine

SMALL = {"image_px": 16}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A small pipeline of random weights."""
    folder = tmp_path_factory.mktemp("pipeline") / "small"
    tiny_stable_diffusion.write_pipeline(folder, 1, shallow=True)
    return folder


def make_config(base: Path, name: str = "digits_tiny_sd_lora", **sections: dict) -> dict:
    """A quick fine-tuning of the small pipeline on 40 digits."""
    config = as_config(f"configs/generator/{name}.py:quick")
    config = as_config(config, {"pipeline": {"path": str(base)}, "data": {"n_base": 40}, "method": SMALL})
    return as_config(config, {**sections, "prompts": {"template": "a {}", **sections.get("prompts", {})}})


def tune(config: dict, folder: Path) -> dict:
    return do(config, folder).result


def drawing(path: Path, **changes: object) -> dict:
    """Of 20 digits with whatever pipeline `path` is."""
    config = as_config("configs/sample/tiny_sd.py:quick")
    sample = {"num_images": 20, "pipeline": {"path": str(path)}, "prompts": {"template": "a {}"}}
    config = as_config(config, sample | changes)
    return as_config(config, {"sample": {"image_px": 16}, "data": {"n_base": 40}})


def draw(path: Path, folder: Path, **changes: object) -> dict:
    """What `drawing` has drawn."""
    return do(drawing(path, **changes), folder).result


@pytest.fixture(scope="module")
def adapted(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapted") / "run"
    tune(make_config(base, grid={"per_class": 1, "num_steps": 2}, train={"eval_steps": 2}), folder)
    return folder


def test_interrupted_fine_tuning_ends_bit_for_bit_as_one_that_was_not(base, adapted, tmp_path, monkeypatch):
    config = make_config(base, grid={"per_class": 1, "num_steps": 2}, train={"eval_steps": 2})
    with monkeypatch.context() as patch, pytest.raises(stop.Stopped, match="at step 1"):

        def stopped(*given):  # asked once training begins, when latents are encoded
            patch.setattr(stop, "requested", lambda: True)
            return run_fit(*given)

        patch.setattr(finetune, "run_fit", stopped)
        tune(config, tmp_path / "run")
    assert not (tmp_path / "run" / "lora.safetensors").exists()
    tune(config, tmp_path / "run")
    for file in ("lora.safetensors", "grids/step_000004.png"):
        assert (tmp_path / "run" / file).read_bytes() == (adapted / file).read_bytes()


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_set_is_drawn_with_what_was_adapted(base, adapted, tmp_path):
    assert {path.name for path in adapted.iterdir()} >= {"lora.safetensors", "checkpoints", "result.json"}
    assert not (adapted / "pipeline").exists()
    found = result(adapted)
    assert found["n_base"] == 40 and found["loss_train"] > 0 and found["loss_heldout"] > 0
    assert draw(adapted, tmp_path / "tuned")["generator"] == found["generator"]
    assert draw(base, tmp_path / "plain")["generator"] != found["generator"]
    one, other = (open_synthetic(tmp_path / name).images(np.arange(20)) for name in ("tuned", "plain"))
    assert one.shape == (20, 8, 8, 1) and not np.array_equal(one, other)


def test_adapters_on_top_of_the_pipeline_are_the_folder_of_the_run(base, adapted, tmp_path):
    """The file that torch's diffusers reads, given beside the pipeline, draws what the run's folder draws."""
    beside = {"path": str(base), "lora": str(adapted / "lora.safetensors")}
    made = draw(base, tmp_path / "beside", pipeline=beside)
    assert made["generator"] == result(adapted)["generator"]
    assert made["data_digest"] == result(adapted)["data_digest"] != "" and made["n_base"] == 40
    halved = draw(base, tmp_path / "halved", pipeline={**beside, "lora_scale": 0.5})
    assert halved["generator"] not in (made["generator"], draw(base, tmp_path / "plain")["generator"])


def test_what_a_run_says_is_said_of_all_that_it_left(tmp_path):
    said = {"n_base": 9, "data_digest": "d", "words": {"a": "<a>"}, "commit": "c", "adapters": "class"}
    (tmp_path / "result.json").write_text(json.dumps(said))
    (tmp_path / "lora.safetensors").touch()
    for name in ("classes/0000", "tokens", "pipeline", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "classes" / "0000" / "lora.safetensors").touch()
    found = {}
    for name in ("", "pipeline", "lora.safetensors", "classes/0000", "classes/0000/lora.safetensors", "tokens"):
        field = "tokens" if name == "tokens" else "lora"
        found[name] = pipelines.fine_tuned(
            {"path": "tiny_sd", "tokens": (), "lora": (), field: str(tmp_path / name)}, Inputs()
        )
    learnt = {"n_base": 9, "data_digest": "d"}
    assert found.pop("tokens") == {**learnt, "words": said["words"]}
    assert all(one == learnt for one in found.values()), found
    beside = {"tokens": "", "lora": str(tmp_path / "elsewhere")}
    assert pipelines.fine_tuned({"path": str(tmp_path / "pipeline"), **beside}, Inputs()) == said
    assert pipelines.fine_tuned({"path": "tiny_sd", **beside}, Inputs()) == {}


def test_grid_of_each_evaluation_shows_every_class(adapted):
    assert sorted(path.name for path in (adapted / "grids").iterdir()) == ["step_000002.png", "step_000004.png"]
    with Image.open(adapted / "grids" / "step_000004.png") as sheet:
        width, height = sheet.size
    assert height > 10 * width * 0.9  # ten rows of one image


def test_merge_writes_a_plain_pipeline(adapted, tmp_path):
    config = as_config("configs/merge.py", {"pipeline": {"path": str(adapted)}})
    made = do(config, tmp_path / "merged").result
    loaded = stable_diffusion.load(str(tmp_path / "merged" / "pipeline"))
    tuned = pipelines.open_pipeline({"path": str(adapted)}, Inputs())
    for name, leaf in named_leaves(lora.merged(tuned.params)).items():
        np.testing.assert_array_equal(named_leaves(loaded.params)[name], leaf)
    for path in (tmp_path / "merged", tmp_path / "merged" / "pipeline"):
        drawn = draw(path, tmp_path / f"set_of_{path.name}")
        assert drawn["generator"] == made["generator"]
        assert drawn["data_digest"] == result(adapted)["data_digest"] != "" and drawn["n_base"] == 40


def test_merge_leaves_adapters_alone_in_kohyas_form(base, adapted, tmp_path):
    given = {"path": str(base), "lora": (str(adapted), str(adapted / "lora.safetensors")), "lora_scale": (0.5, 0.25)}
    config = as_config("configs/merge.py", {"pipeline": given, "leave": "kohya"})
    left = do(config, tmp_path / "merged").result
    assert left["data_digest"] == result(adapted)["data_digest"] and left["n_base"] == 40
    again = pipelines.open_pipeline({"path": str(base), "lora": str(tmp_path / "merged")}, Inputs())
    once = pipelines.open_pipeline({"path": str(base), "lora": str(adapted), "lora_scale": 0.75}, Inputs())
    for name, leaf in named_leaves(lora.merged(once.params)).items():
        np.testing.assert_allclose(named_leaves(lora.merged(again.params))[name], leaf, rtol=0, atol=1e-6)
    config = as_config("configs/merge.py", {"pipeline": {"path": str(base)}, "leave": "peft"})
    with pytest.raises(ValueError, match="has no adapters"):
        do(config, tmp_path / "none")
    config = as_config("configs/merge.py", {"pipeline": {**given, "lora_scale": (1.0,)}})
    with pytest.raises(ValueError, match="names 1 for 2 files"):
        do(config, tmp_path / "none")


def test_what_lies_on_top_of_a_pipeline_yet_to_be_fine_tuned_is_checked_ahead(base, adapted, tmp_path):
    """As it is once that lies there: words and adapters of others, and the types of the computation."""
    inputs, given = Inputs(), {"path": "a stage"}
    inputs.planned["a stage"] = Output({"task": "finetune"}, {}, None)
    inputs.shared["a stage"] = plain = pipelines.open_pipeline({"path": str(base)}, Inputs())
    of_others = stable_diffusion.add_tokens(plain, {"<mine>": "cat"})
    stable_diffusion.save_tokens(of_others, ("<mine>",), tmp_path / "words")
    on_top = {"tokens": str(tmp_path / "words"), "lora": str(adapted), "dtype": "bfloat16"}
    opened = pipelines.open_pipeline({**given, **on_top}, inputs)
    there = pipelines.open_pipeline({"path": str(base), **on_top}, Inputs())
    assert opened.pipeline == there.pipeline != plain.pipeline
    assert lora.attached(opened.params) and not lora.attached(plain.params)
    with pytest.raises(ValueError, match=r"nothing\.safetensors"):
        pipelines.open_pipeline({**given, "lora": str(tmp_path / "nothing.safetensors")}, inputs)


def test_pipeline_that_nobody_uses_leaves_the_memory(base):
    opened = pipelines.open_pipeline({"path": str(base)}, Inputs())
    assert pipelines.open_pipeline({"path": str(base)}, Inputs()) is opened
    text_to_image.digest(opened)
    gone = weakref.ref(opened)
    del opened
    gc.collect()
    assert gone() is None


def test_whole_unet_is_left_as_a_plain_pipeline(base, tmp_path):
    config = make_config(base, "digits_tiny_sd_full")
    found = tune(config, tmp_path / "whole")
    loaded = stable_diffusion.load(str(tmp_path / "whole" / "pipeline"))
    assert draw(tmp_path / "whole", tmp_path / "set")["generator"] == found["generator"]
    assert found["num_trained"] == sum(leaf.size for leaf in jax.tree.leaves(loaded.params["unet"]))
    assert draw(tmp_path / "whole" / "pipeline", tmp_path / "again")["generator"] == found["generator"]


def test_learnt_words_ask_for_the_classes(base, tmp_path):
    config = make_config(
        base, "digits_tiny_sd_full", method={"train_unet": False, "learn_tokens": 1, "token_like": "cat"}
    )
    found = tune(config, tmp_path / "words")
    assert found["words"]["3"] == "<3>" and found["num_trained"] == 10 * 32
    assert len(list((tmp_path / "words" / "tokens").iterdir())) == 10
    assert draw(tmp_path / "words", tmp_path / "set")["generator"] == found["generator"]
    provenance = json.loads((tmp_path / "set" / "provenance.json").read_text())
    assert provenance["spec"]["prompts"][3] == "a <3>"


def test_new_words_are_the_classes_names_without_what_prompts_cannot_hold():
    assert new_words(["Red Cell", "B+"], 1) == {"Red Cell": "<red-cell>", "B+": "<b>"}
    assert new_words(["a"], 2) == {"a": "<a-0> <a-1>"}
    with pytest.raises(ValueError, match="distinct names"):
        new_words(["b+", "b-"], 1)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"method": {"rank": 64, "alpha": 1.0}}, r"lora\.rank 64: expected 1 to 32"),
        ({"method": {"targets": ("to_x",)}}, "no matrix"),
        ({"method": {"image_px": 17}}, "17 px do not fit"),
        ({"method": {"learn_tokens": -1}}, "learn_tokens -1"),
        ({"prompts": {"template": "a photo"}}, "each with one {}"),
        ({"prompts": {"template": "a {} " + "cat " * 30}}, "tokens long"),
        ({"pipeline": {"path": "no/such/folder"}}, "is no folder"),
        ({"pipeline": {"path": ""}}, r"pipeline\.path is empty"),
        ({"pipeline": {"dtype": "int8"}}, "'int8'"),
        ({"train": {"batch_size": 6}}, "cannot be split over 4 devices"),
        ({"augment": {"flip": True, "crop_px": 1}}, "may flip and nothing else"),
        ({"grid": {"per_class": 1, "solver": "magic"}}, "magic"),
        ({"grid": {"per_class": -1}}, r"grid\.per_class -1"),
        ({"grid": {"num_steps": 10**8}}, "num_steps 100000000"),
        ({"grid": {"num_steps": 1001}}, "num_steps 1001: expected 1 to 1000"),
        ({"grid": {"negative": "cat " * 100}}, "tokens long"),
    ],
)
def test_fine_tuning_refuses_before_anything_is_written(base, tmp_path, sections, said):
    config = make_config(base)
    config["augment"] = {"flip": False, "crop_px": 0}
    with pytest.raises(ValueError, match=said):
        tune(as_config(config, sections), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_step_that_no_device_has_the_memory_for_is_refused(base, tmp_path, monkeypatch):
    monkeypatch.setattr(Machine, "memory_bytes", property(lambda self: 2**20))
    with pytest.raises(BadInput, match=r"needs about 0\.\d GiB: .* a device has 0\.0 GiB"):
        tune(make_config(base), tmp_path / "work")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"grid": {"per_class": 1, "per_device_batch": 512}}, "A grid needs"),
        ({"grid": {"per_class": 0}, "eval": {"batch_size": 1024}}, "An evaluation needs"),
    ],
)
def test_stage_that_takes_most_is_what_a_device_must_hold(base, tmp_path, monkeypatch, sections, said):
    """Here that of a step is much less."""
    monkeypatch.setattr(Machine, "memory_bytes", property(lambda self: 2**20))
    with pytest.raises(BadInput, match=rf"{said} about \d\.\d GiB: .* a device has 0\.0 GiB"):
        tune(make_config(base, **sections), tmp_path / "work")


def test_sampling_that_no_device_has_the_memory_for_is_refused(base, tmp_path, monkeypatch):
    monkeypatch.setattr(Machine, "memory_bytes", property(lambda self: 2**20))
    with pytest.raises(BadInput, match=r"Sampling needs about 0\.\d GiB: .* a device has 0\.0 GiB"):
        draw(base, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_run_that_has_not_finished_is_no_pipeline(base, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(make_config(base)))
    with pytest.raises(BadInput, match="holds no finished"):
        draw(folder, tmp_path / "set")


def test_captions_are_trained_on_and_sampled_by(base, tmp_path):
    """A fine-tuning on each image's caption, then a set under the contexts of other classes."""
    labels = open_source("digits", "train").labels
    texts = [f"a {label} cat" if i % 2 else f"the {label}" for i, label in enumerate(labels)]
    file = tmp_path / "captions.json"
    file.write_text(json.dumps(texts))
    data, prompts = {"captions": str(file)}, {"template": "", "contexts": "own"}
    config = make_config(base, data=data, prompts=prompts)
    found = tune(config, tmp_path / "run")
    assert found["captions"] == {"num": 40, "duplicates": found["captions"]["duplicates"]} | {
        "longest_words": 3,
        "without_class": 0,
    }
    asked = {"template": "", "contexts": "shuffle", "other_class": True}
    made = draw(tmp_path / "run", tmp_path / "set", data=data, prompts=asked)
    assert made["captions"]["num"] == 40
    drawn = read_labelled(tmp_path / "set")
    assert {text.replace(str(label), "#") for text, label in zip(drawn.prompts, drawn.labels, strict=True)} == {
        *("a # cat", "the #")
    }
    file.write_text(json.dumps(texts[::-1]))  # other captions under the same path are another run
    with pytest.raises(BadInput, match=r"data\.captions"):
        tune(config, tmp_path / "run")
    with pytest.raises(BadInput, match="fine-tune by 'own'"):
        tune(make_config(base, data=data, prompts={"template": "", "contexts": "shuffle"}), tmp_path / "no")


def test_adapters_of_each_class_are_trained_by_one_job_that_resumes_and_sampled_by_class(base, tmp_path, monkeypatch):
    """Killed after the first class, it goes on with the second; each image is of its own class's adapters."""
    two = tmp_path / "two.txt"
    two.write_text("3\n7\n")
    data = {"classes": str(two), "n_base": 8}
    config = make_config(base, data=data, method={"per": "class", "precompute": False})
    trained = []

    def counted(*given):
        trained.append(given[6])
        if len(trained) == 2:
            raise stop.Stopped("now")
        return run_fit(*given)

    with monkeypatch.context() as patch, pytest.raises(stop.Stopped):
        patch.setattr(finetune, "run_fit", counted)
        tune(config, tmp_path / "run")
    found = tune(config, tmp_path / "run")
    assert trained == ["class 3, 1 of 2", "class 7, 2 of 2"] and found["adapters"] == "class"
    assert re.fullmatch(r"\d x \w+ \(cpu, \d+ cores\)", found["trained_on"])
    files = [tmp_path / "run" / "classes" / f"000{c}" / "lora.safetensors" for c in (0, 1)]
    for part in ((1, 2), (0, 2), (2, 3)):  # by tasks of their own, of which the last has nothing to do
        do(config, tmp_path / "shared", part=part)
    assert not (tmp_path / "shared" / "result.json").exists()
    together = tune(config, tmp_path / "shared")
    assert together["generator"] == found["generator"] and together["seconds"] > 0
    assert not list((tmp_path / "shared").glob("seconds.part*"))
    assert files[0].read_bytes() != files[1].read_bytes()
    shared = {"data": {"classes": str(two), "n_base": 8}, "num_images": 8}
    made = draw(tmp_path / "run", tmp_path / "set", **shared)
    assert made["generator"] == found["generator"]
    drawn = open_synthetic(tmp_path / "set")
    for c, file in enumerate(files):
        alone = {"pipeline": {"path": str(base), "lora": str(file)}}
        draw(base, tmp_path / f"alone{c}", **shared, **alone)
        other = open_synthetic(tmp_path / f"alone{c}")
        for i in np.flatnonzero(drawn.labels == c):
            assert np.abs(drawn.read(i).astype(int) - other.read(i)).max() <= 1  # batches of others round otherwise
    with pytest.raises(BadInput, match="has adapters of the classes 3, 7, expected those of this data"):
        draw(tmp_path / "run", tmp_path / "no")
    with pytest.raises(BadInput, match="adapters for each class"):
        do(as_config("configs/merge.py", {"pipeline": {"path": str(tmp_path / "run")}}), tmp_path / "merged")
    with pytest.raises(BadInput, match="adapters of the network alone"):
        tune(make_config(base, "digits_tiny_sd_full", method={"per": "class"}), tmp_path / "no")


def test_prior_is_half_of_each_batch_and_refused_where_it_means_nothing(base, adapted, tmp_path):
    draw(base, tmp_path / "prior")
    draw(adapted, tmp_path / "other")
    spec = replace(read_spec(tmp_path / "prior"), generator="an-edm", num_images=10, shard_images=10)
    synthetic.write_shard(tmp_path / "edm", spec, 0, np.zeros((10, 8, 8, 1), np.uint8))
    synthetic.finish(tmp_path / "edm", spec)
    prior = {"prior": str(tmp_path / "prior"), "precompute": False, "prior_weight": 0.5}
    job = finetune.TuneUNet(make_config(base, method=prior), Inputs())
    job.check()
    keys = job.sampler_of(job.real.base).keys(0, 40)
    assert job.prior and (keys >= 40).sum() == 20 and job.training.task.prior_weight == 0.5
    one = job.real.base.subset(np.flatnonzero(job.real.base.labels == 3))
    assert set(job.sampler_of(one).pool.labels.tolist()) == {3}
    for wrong, said in (
        ({"precompute": True}, "encodes the real images alone"),
        ({"prior": ""}, "without method.prior"),
        ({"prior": str(base)}, "no .*provenance.json"),
        ({"prior": str(tmp_path / "other")}, "was sampled from the generator"),
        ({"prior": str(tmp_path / "edm")}, "was sampled from the generator an-edm, expected the pipeline that is fine"),
    ):
        with pytest.raises(ValueError, match=said):
            finetune.TuneUNet(make_config(base, method={**prior, **wrong}), Inputs()).check()


@pytest.mark.parametrize("how", ["plain", "captions", "words"])
def test_prior_is_trained_under_the_texts_that_it_was_sampled_by(base, tmp_path, how):
    draw(base, tmp_path / "prior", prompts={"template": "do {}"})
    sections: dict = {"method": {"prior": str(tmp_path / "prior"), "precompute": False}}
    if how == "captions":
        file = tmp_path / "captions.json"
        file.write_text(json.dumps([f"the {label}" for label in open_source("digits", "train").labels]))
        sections |= {"data": {"captions": str(file)}, "prompts": {"template": "", "contexts": "own"}}
    if how == "words":
        sections["method"] |= {"learn_tokens": 1, "train_unet": False, "token_like": "cat"}
    job = finetune.TuneUNet(make_config(base, "digits_tiny_sd_full", **sections), Inputs())
    job.check()
    texts = sorted({"", *job.captions, *job.prior.captions.tolist(), *(text for (text, *_) in job.asked)})
    assert [texts[i] for i in job.frozen["of_prior"]] == [f"do {label}" for label in job.prior.labels]
    tune(job.config, tmp_path / "run")


def test_prior_that_is_yet_to_be_sampled_is_checked_by_its_pipeline(base, adapted):
    inputs, config = Inputs(), make_config(base, method={"prior": "a set", "precompute": False})
    for path, tuned in ((base, False), (adapted, True)):
        planned = TextToImage(drawing(path), inputs)
        planned.check()
        inputs.planned["a set"] = Output(planned.config, planned.promise(), None)
        job = finetune.TuneUNet(config, inputs)
        if tuned:
            with pytest.raises(ValueError, match=r"a set was sampled from the generator .*Sample a set with the same"):
                job.check()
        else:
            job.check()
