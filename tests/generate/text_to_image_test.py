"""Laws of generate/text_to_image.py, on a small pipeline of random weights."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny_stable_diffusion as tiny
from PIL import Image

from jaxmoust.core.diffusion.solvers import SOLVERS
from jaxmoust.data.source import from_arrays
from jaxmoust.data.sources.registry import open_source
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.data.synthetic.spec import Descent
from jaxmoust.generate import text_to_image
from jaxmoust.generate.text_to_image import Request
from jaxmoust.generate.writing import NonFiniteImage
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion.kinds import StableDiffusion, StableDiffusion3, StableDiffusionXL
from jaxmoust.runtime.parallel import Machine

PROMPTS = (("a photo of a cat", "a cat"), ("a dog",), ("do cats photo dogs",))
REQUEST = Request(PROMPTS, image_px=16, num_steps=4, guidance=3.0, solver="ancestral", per_device_batch=2)
LABELS, INDICES = np.arange(12) % 3, np.arange(12) // 3


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> stable_diffusion.Loaded:
    folder = tmp_path_factory.mktemp("pipeline") / "1"
    tiny.write_pipeline(folder, 1)
    return stable_diffusion.load(str(folder))


def draw(loaded, request=REQUEST, labels=LABELS, indices=INDICES, seed=0, num_devices=1, **options):
    machine = Machine.local(num_devices)
    labels, indices = np.asarray(labels), np.asarray(indices)
    return np.concatenate(list(text_to_image.draw(loaded, request, seed, labels, indices, machine, **options)))


@pytest.fixture(scope="module")
def images(loaded):
    drawn = draw(loaded)
    assert drawn.shape == (12, 16, 16, 3) and drawn.std() > 10
    assert np.mean((drawn == 0) | (drawn == 255)) < 0.9  # what is compared below is what the networks made
    assert len({image.tobytes() for image in drawn}) == 12
    return drawn


def test_image_is_the_same_wherever_it_stands_and_on_four_devices(loaded, images):
    order = np.random.default_rng(0).permutation(12)
    np.testing.assert_array_equal(draw(loaded, labels=LABELS[order], indices=INDICES[order]), images[order])
    np.testing.assert_array_equal(draw(loaded, labels=LABELS[5:6], indices=INDICES[5:6]), images[5:6])
    np.testing.assert_array_equal(draw(loaded, num_devices=4), images)


def test_image_depends_on_prompt_and_seed_and_on_the_prompts_of_no_other(loaded, images):
    assert not np.array_equal(draw(loaded, seed=1), images)
    changed = draw(loaded, replace(REQUEST, prompts=(PROMPTS[0], ("a photo",), PROMPTS[2])))
    same = (changed == images).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, LABELS != 1)


def test_one_program_serves_every_class_prompt_seed_and_guidance(loaded, images):
    compiled = []

    def listen(name, seconds, **details):
        if name == "/jax/core/compile/jaxpr_to_mlir_module_duration":
            compiled.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    others = (("the cat runs",), ("a dog", "dogs"), ("cats",), ("do cats",))
    other = replace(REQUEST, prompts=others, guidance=5.5, negative="a dog")
    draw(loaded, other, np.arange(4), np.arange(4), seed=3)
    assert not compiled
    draw(loaded, replace(REQUEST, num_steps=3))
    assert len(compiled) == 1  # so that it is compilations that are counted


def test_guidance_of_one_is_the_conditional_network_asked_once(loaded, monkeypatch):
    rows = []
    kept = stable_diffusion.StableDiffusion.denoiser

    def counting(self, params, states, **options):
        rows.append(len(states))
        return kept(self, params, states, **options)

    monkeypatch.setattr(stable_diffusion.StableDiffusion, "denoiser", counting)
    text_to_image._solver.cache_clear()
    off = draw(loaded, replace(REQUEST, guidance=1.0, num_steps=2))
    near = draw(loaded, replace(REQUEST, guidance=1.0 + 1e-6, num_steps=2))
    assert rows == [2, 4]
    assert np.abs(off.astype(int) - near).max() <= 1


def test_guidance_moves_away_from_the_negative_prompt(loaded, images):
    assert not np.array_equal(draw(loaded, replace(REQUEST, negative="a dog")), images)
    # From the class's own prompt there is nowhere to go.
    own = replace(REQUEST, prompts=(("a dog",),) * 3, negative="a dog")
    off = draw(loaded, replace(own, guidance=1.0, negative=""))
    assert np.abs(draw(loaded, own).astype(int) - off).max() <= 1


@pytest.mark.parametrize("name", sorted(set(SOLVERS) - {"ancestral"}))
def test_every_solver_draws(loaded, images, name):
    drawn = draw(loaded, replace(REQUEST, solver=name))
    assert drawn.shape == images.shape and drawn.std() > 10 and not np.array_equal(drawn, images)


def real(num=4):
    """Smooth grey images of another size: class c has `num`, each of its own brightness."""
    level = np.linspace(40, 220, 3 * num).astype(np.uint8)
    images = np.broadcast_to(level[:, None, None, None], (3 * num, 8, 8, 1)).copy()
    return from_arrays(images, np.arange(3 * num) % 3, ["a", "b", "c"])


def test_weak_edit_is_near_what_the_vae_makes_of_its_real_image_and_a_strong_one_far(loaded):
    source = real(2)
    request = replace(REQUEST, num_steps=50, guidance=1.0, solver="euler")
    to_vae_input = np.repeat(np.repeat(np.repeat(source.images(np.arange(6)), 2, 1), 2, 2), 3, 3)
    pipeline, params = loaded.pipeline, loaded.params
    through = pipeline.decode_latent(params, pipeline.encode_image(params, to_vae_input.astype(np.float32) / 127.5 - 1))
    expected = np.clip(np.round((np.asarray(through) + 1) * 127.5), 0, 255)
    # Images 0, 1, ... 5 are the first and the second of each class in turn; the third of a class is its first again.
    weak = draw(loaded, replace(request, strength=0.02), LABELS[:9], INDICES[:9], start_from=source)
    strong = draw(loaded, replace(request, strength=1.0), LABELS[:9], INDICES[:9], start_from=source)
    distance = [
        np.abs(drawn.astype(float) - np.concatenate([expected, expected[:3]])).mean() for drawn in (weak, strong)
    ]
    assert distance[0] < 0.5 * distance[1]
    assert not np.array_equal(weak[6:], weak[:3])  # other noise


def test_photographs_of_several_sizes_are_brought_to_the_pipelines(tmp_path):
    for name, size in (("a/1.png", (20, 30)), ("a/2.png", (41, 24)), ("b/1.png", (16, 16))):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (200, 10, size[0])).save(file)
    source = open_source("folder", "all", str(tmp_path))
    assert source.shape is None
    begin = text_to_image._init_images(source, 16, np.array([0, 0, 1]), np.array([0, 1, 0]))
    images = [begin(row) for row in range(3)]
    assert {image.shape for image in images} == {(16, 16, 3)} and [image[0, 0, 2] for image in images] == [20, 41, 16]


def test_class_without_a_real_image_is_refused(loaded):
    source = from_arrays(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int32), ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"no real image to start from in the classes \['b', 'c'\]"):
        draw(loaded, start_from=source)


def make_spec(loaded, **other):
    fields = {
        "name": "external",
        "class_names": ("a", "b", "c"),
        "shape": (8, 8, 1),
        "num_images": 10,
        "shard_images": 4,
        "seed": 0,
        "generator": text_to_image.digest(loaded),
        "guidance": REQUEST.guidance,
        "steps": 4,
    }
    return synthetic.SyntheticSpec(**{**fields, **other})


def test_set_has_the_targets_size_and_channels_and_each_image_its_prompt(loaded, images, tmp_path):
    import tensorflow_datasets as tfds

    text_to_image.write_set(loaded, REQUEST, make_spec(loaded), tmp_path / "set", Machine.local(2))
    source = synthetic.open_synthetic(tmp_path / "set")
    halved = images[:10].astype(float).reshape(10, 8, 2, 8, 2, 3).mean((2, 4))
    grey = halved @ [0.299, 0.587, 0.114]
    assert np.abs(source.images(np.arange(10))[..., 0] - grey).max() <= 1.5
    records = tfds.builder_from_directory(str(tmp_path / "set")).as_data_source("train")
    prompts = [records[i]["prompt"].decode() for i in range(10)]
    assert prompts == [PROMPTS[c][i % len(PROMPTS[c])] for c, i in zip(LABELS[:10], INDICES[:10], strict=True)]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"class_names": ("a", "b")}, "of 2 classes"),
        ({"shape": (8, 9, 1)}, "square"),
        ({"generator": "0" * 16}, "generator '0000000000000000', not"),
        ({"guidance": 2.0}, "guidance 2.0, not 3.0"),
        ({"steps": 5}, "steps 5, not 4"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_set_of_something_else_is_refused_before_any_work(loaded, tmp_path, other, said):
    with pytest.raises(ValueError, match=said):
        text_to_image.write_set(loaded, REQUEST, make_spec(loaded, **other), tmp_path / "set", Machine.local())
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"solver": "plms"}, "'plms': expected"),
        ({"num_steps": 0}, "whole numbers from 1"),
        ({"guidance": 0.5}, "guidance 0.5: expected 1.0"),
        ({"strength": 0.0}, "strength 0.0: expected numbers above 0"),
        ({"strength": 1.5}, r"strength 1\.5"),
        ({"prompts": (("a",), ())}, "without a prompt"),
        ({"guidance": 1.0, "negative": "a dog"}, "which is off and asks for no negative"),
    ],
)
def test_request_that_cannot_be_drawn_is_refused(field, said):
    with pytest.raises(ValueError, match=said):
        replace(REQUEST, **field)


# N, strength, and the steps that `get_timesteps` of torch's image to image (diffusers 0.39) leaves, of 1.x and of 3.
KEPT = [
    (50, 0.55, 27, 28),
    (50, 0.58, 28, 29),  # 28.999999999999996
    (30, 0.99, 29, 30),
    (28, 0.6, 16, 17),
    (10, 0.3, 3, 3),
    (10, 0.35, 3, 4),
    (40, 0.7, 28, 28),
    (40, 0.33, 13, 14),
    (7, 0.5, 3, 4),
    (50, 0.98, 49, 49),
    (10, 0.05, 0, 1),
    (3, 0.01, 0, 1),
    (50, 0.02, 1, 1),
    (100, 0.29, 28, 29),
    (9, 1.0, 9, 9),
]


@pytest.mark.parametrize(("num_steps", "strength", "of_first", "of_third"), KEPT)
def test_strength_keeps_as_many_steps_as_torch_does(num_steps, strength, of_first, of_third):
    kinds = (StableDiffusion, StableDiffusionXL, StableDiffusion3)
    assert [kind.num_kept(num_steps, strength) for kind in kinds] == [of_first, of_first, of_third]


def test_strength_of_less_than_a_step_is_refused_where_none_would_be_taken(loaded):
    weak = replace(REQUEST, strength=0.05)
    for refused in (weak.check, weak.num_kept):
        with pytest.raises(ValueError, match="less than one of 4 would be taken"):
            refused(loaded.pipeline)
    assert weak.num_kept(StableDiffusion3) == 1


def test_prompt_or_size_that_does_not_fit_the_pipeline_is_refused(loaded):
    with pytest.raises(ValueError, match="tokens long"):
        draw(loaded, replace(REQUEST, prompts=(("a cat " * 30,),) * 3))
    with pytest.raises(ValueError, match="multiples of 4"):
        draw(loaded, replace(REQUEST, image_px=18))


def test_digest_tells_pipelines_apart(loaded):
    params = {**loaded.params, "vae": jax.tree.map(lambda x: x + 1e-3, loaded.params["vae"])}
    again = stable_diffusion.Loaded(loaded.pipeline, dict(loaded.params))
    other = stable_diffusion.Loaded(loaded.pipeline, params)
    assert text_to_image.digest(again) == text_to_image.digest(loaded) != text_to_image.digest(other)
    assert len(text_to_image.digest(loaded)) == 16


def test_images_that_are_no_numbers_are_refused(loaded):
    """As float16 gives where a VAE overflows; cast alone they would be black."""
    vae = jax.tree.map(lambda leaf: np.full_like(leaf, np.inf), loaded.params["vae"])
    broken = stable_diffusion.Loaded(loaded.pipeline, {**loaded.params, "vae": vae})
    with pytest.raises(NonFiniteImage, match="2 of 2 images came out NaN or infinite, first number 0 of class 0"):
        draw(broken)


def test_each_image_of_several_strengths_is_that_of_a_set_of_its_own(loaded, tmp_path):
    """In any order and on two devices; a record says the strength of each, and a translated one its second class."""
    real = from_arrays(np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1), np.uint8), np.arange(7) % 3, list("abc"))
    request = replace(REQUEST, descent=Descent((0.5, 1.0)))
    both = draw(loaded, request, start_from=real, num_devices=2)
    level = request.descent.level_of(real.labels, LABELS, INDICES)
    for one, strength in enumerate((0.5, 1.0)):
        mine = np.flatnonzero(level == one)
        alone = draw(loaded, replace(REQUEST, strength=strength), LABELS[mine], INDICES[mine], start_from=real)
        assert (
            mine.size and np.abs(both[mine].astype(int) - alone).max() <= 1
        )  # batches of another size round otherwise
    descent = Descent((0.5, 1.0), translate=True)
    spec = make_spec(loaded, created_by={"parents": real.digest, "soft": 0.5})
    given = (replace(request, descent=descent), spec, tmp_path / "set", Machine.local(2))
    text_to_image.write_set(loaded, *given, start_from=real)
    found = synthetic.open_synthetic(tmp_path / "set")
    said = descent.columns(real.labels, found.labels, INDICES[:10])
    np.testing.assert_array_equal(found.soft.second, real.labels[found.lineage.parents])
    np.testing.assert_array_equal(found.soft.weight, said["second_weight"])
    np.testing.assert_array_equal(found.lineage.strengths, said["strength"])
    assert found.records.column("second").tolist() == found.soft.second.tolist()
