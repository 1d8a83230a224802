"""Laws of generate/pixels.py: an image is a function of (generator, seed, class, index), bit for bit.

The U-Net here is small and untrained, with random parameters: what it draws means nothing, but every operation of a
real generator takes part in it.
"""

from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.diffusion.methods import DDPM, EDM
from jaxmoust.core.diffusion.solvers import SOLVERS
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.generate import pixels, writing
from jaxmoust.generate.pixels import Generator, Sampling
from jaxmoust.models.unet.unet import UNet
from jaxmoust.runtime import stop
from jaxmoust.runtime.parallel import Machine

SHAPE, K = (4, 4, 1), 3
SAMPLING = Sampling("ancestral", num_steps=4, per_device_batch=4)  # the one that draws noise on its way


def randomised(model, seed=0, scale=0.6):
    """Parameters of a model, all of them random and none zero."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *SHAPE)), jnp.zeros(1), jnp.zeros(1, int))
    return jax.tree.map(lambda leaf: (scale * rng.normal(size=leaf.shape)).astype(np.float32), shapes["params"])


UNET = UNet(1, K, base_channels=4, channel_multipliers=(1, 2), num_blocks=1, attention_px=(4,))
GENERATOR = Generator(UNET, EDM(), randomised(UNET), K, SHAPE)


def draw(generator, sampling, labels, indices, num_devices=1, seed=0):
    machine = Machine.local(num_devices)
    labels, indices = np.asarray(labels), np.asarray(indices)
    return np.concatenate(list(pixels.draw(generator, sampling, seed, labels, indices, machine)))


LABELS, INDICES = np.arange(24) % K, np.arange(24) // K


@pytest.fixture(scope="module")
def images():
    """Images 0 to 7 of each class, drawn in order, four at a time, on one device."""
    drawn = draw(GENERATOR, SAMPLING, LABELS, INDICES)
    # Neither black nor white: what is compared below is what the network made.
    assert drawn.std() > 20 and np.mean((drawn == 0) | (drawn == 255)) < 0.5
    return drawn


def test_image_is_the_same_wherever_it_stands(images):
    order = np.random.default_rng(0).permutation(24)
    np.testing.assert_array_equal(draw(GENERATOR, SAMPLING, LABELS[order], INDICES[order]), images[order])


@pytest.mark.parametrize("count", [1, 5])
def test_image_is_the_same_whatever_is_drawn_with_it(images, count, monkeypatch):
    """A block that is not full is padded: the device never sees another size than its own."""
    sizes, split = set(), Machine.split
    monkeypatch.setattr(
        Machine, "split", lambda self, batch: sizes.update(map(len, batch.values())) or split(self, batch)
    )
    drawn = draw(GENERATOR, SAMPLING, LABELS[7:][:count], INDICES[7:][:count])
    assert sizes == {4}
    np.testing.assert_array_equal(drawn, images[7:][:count])


def test_image_is_the_same_on_four_devices(images):
    np.testing.assert_array_equal(draw(GENERATOR, SAMPLING, LABELS, INDICES, num_devices=4), images)


def test_image_is_nearly_the_same_at_another_batch_size(images):
    """Only rounding differs: XLA multiplies matrices of other sizes in another order."""
    other = draw(GENERATOR, replace(SAMPLING, per_device_batch=7), LABELS, INDICES)
    levels = np.abs(other.astype(int) - images)
    # A rounding of 6e-8 in [-1, 1] is 1e-5 of a level: it shows where a pixel lies that near to the border of two.
    # None does here; 1 % leaves room for the arithmetic of other machines.
    assert levels.max() <= 1 and np.mean(levels > 0) < 0.01


def test_images_of_other_class_index_or_seed_are_other_images(images):
    assert len({image.tobytes() for image in images}) == len(images)
    assert not np.array_equal(draw(GENERATOR, SAMPLING, LABELS, INDICES, seed=1), images)


def make_spec(**other):
    fields = {
        "name": "made",
        "class_names": ("a", "b", "c"),
        "shape": SHAPE,
        "num_images": 20,
        "shard_images": 6,
        "seed": 0,
        "generator": GENERATOR.digest,
        "guidance": SAMPLING.guidance,
        "steps": SAMPLING.num_steps,
    }
    return synthetic.SyntheticSpec(**{**fields, **other})


def write(path, num_devices=1, **processes):
    pixels.write_set(GENERATOR, SAMPLING, make_spec(), path, Machine.local(num_devices), **processes)


def files(path):
    return {file.name: file.read_bytes() for file in path.iterdir() if file.suffix != ".lock"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of a set that one process wrote at once; its shards are no multiple of what is drawn at a time."""
    path = tmp_path_factory.mktemp("whole")
    write(path)
    assert len([name for name in files(path) if "array_record" in name]) == 4
    return path


def test_set_holds_the_images_of_its_classes_in_order(whole, images):
    source = synthetic.open_synthetic(whole)
    np.testing.assert_array_equal(source.images(np.arange(20)), images[:20])
    np.testing.assert_array_equal(source.labels, LABELS[:20])


def test_set_of_two_writers_on_four_devices_is_the_same(whole, tmp_path):
    """The one that ends first leaves the set open, the other one completes it."""
    for process in range(2):
        assert "dataset_info.json" not in files(tmp_path)
        write(tmp_path, num_devices=4, process_index=process, process_count=2)
    assert files(tmp_path) == files(whole)


def test_set_that_lost_a_shard_gets_the_same_bytes_again(whole, tmp_path):
    write(tmp_path)
    lost = sorted(tmp_path.glob("*array_record*"))[1]
    lost.unlink()
    write(tmp_path)
    assert files(tmp_path) == files(whole)


def test_stop_leaves_whole_shards_and_the_same_call_completes_the_set(whole, tmp_path, monkeypatch):
    """Asked while the third block is drawn, 12 images make two shards."""
    asked = iter([False, False, True])
    monkeypatch.setattr(stop, "requested", lambda: next(asked))
    with pytest.raises(stop.Stopped, match="with 2 shards to go; the same command continues"):
        write(tmp_path)
    assert synthetic.missing_shards(tmp_path, make_spec()) == (2, 3)
    monkeypatch.setattr(stop, "requested", lambda: False)
    write(tmp_path)
    assert files(tmp_path) == files(whole)


def test_set_that_is_complete_is_not_drawn_again(whole, monkeypatch):
    before = files(whole)
    monkeypatch.setattr(pixels, "draw", lambda *args, **kwargs: iter(()))
    write(whole)
    assert files(whole) == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"class_names": ("a", "b")}, r"of 2 classes, the generator samples \(4, 4, 1\) of 3"),
        ({"shape": (4, 4, 3)}, r"wants images \(4, 4, 3\)"),
        ({"generator": "0" * 16}, "generator '0000000000000000', not"),
        ({"guidance": 2.0}, "guidance 2.0, not 1.0"),
        ({"steps": 5}, "steps 5, not 4"),
        ({"seed": 2**32}, "seed 4294967296"),
    ],
)
def test_set_of_something_else_is_refused_before_any_work(tmp_path, other, message):
    with pytest.raises(ValueError, match=message):
        pixels.write_set(GENERATOR, SAMPLING, make_spec(**other), tmp_path / "set", Machine.local())
    assert not (tmp_path / "set").exists()


def test_digest_is_that_of_structure_and_every_parameter():
    again = Generator(UNET, EDM(), jax.tree.map(jnp.asarray, randomised(UNET)), K, SHAPE)
    assert again.digest == GENERATOR.digest and len(again.digest) == 16
    leaves, treedef = jax.tree.flatten(GENERATOR.params)
    others = []
    for place in (0, len(leaves) // 2, -1):
        changed = [leaf.copy() for leaf in leaves]
        changed[place].flat[-1] = np.nextafter(changed[place].flat[-1], 1)
        others.append(replace(GENERATOR, params=treedef.unflatten(changed)))
    others.append(replace(GENERATOR, method=EDM(sigma_data=0.4)))
    others.append(replace(GENERATOR, model=UNET.copy(num_heads=2)))
    digests = {GENERATOR.digest, *(other.digest for other in others)}
    assert len(digests) == 1 + len(others)


class Net(nn.Module):
    """A linear layer that knows the class. `null` is added to its answer for the null class."""

    null: float = 0.0

    @nn.compact
    def __call__(self, x, c, label, keys=None, train=False):
        h = nn.Dense(x[0].size)(x.reshape(len(x), -1)) + nn.Embed(K + 1, x[0].size)(label)
        return (h + jnp.where(label == K, self.null, 0.0)[:, None]).reshape(x.shape)


@pytest.mark.parametrize("method", [EDM(), DDPM()], ids=["edm", "ddpm"])
def test_every_solver_draws_from_every_method(method):
    generator = Generator(Net(), method, randomised(Net(), scale=0.05), K, SHAPE)
    drawn = [draw(generator, Sampling(name, 3, per_device_batch=8), LABELS, INDICES) for name in sorted(SOLVERS)]
    assert len({images.tobytes() for images in drawn}) == len(SOLVERS)
    for images in drawn:
        assert images.shape == (24, *SHAPE) and images.dtype == np.uint8 and images.std() > 5


def test_images_have_the_distribution_of_the_generator():
    """Where EDM's network answers 0, `denoise` is that of independent pixels N(0, sigma_data^2)."""
    nothing = jax.tree.map(np.zeros_like, randomised(Net()))
    generator = Generator(Net(), EDM(sigma_data=0.25), nothing, K, SHAPE)
    number = np.arange(512)
    drawn = draw(generator, Sampling("heun", 80, per_device_batch=512), number % K, number // K) / 127.5 - 1
    assert len({image.tobytes() for image in drawn}) == 512  # noise is all they are, and no two classes share it
    # 8192 pixels: 4 standard errors of the mean, 0.25 / sqrt(8192), and of the deviation, 0.8 %; in 80 steps Heun's
    # own error is 0.3 %.
    assert drawn.mean() == pytest.approx(0, abs=4 * 0.25 / 8192**0.5)
    assert drawn.std() == pytest.approx(0.25, rel=4 / (2 * 8192) ** 0.5 + 0.003)


def test_autoguidance_leads_away_from_the_weaker_generator():
    """From itself it leads nowhere; of two networks without depth, to a known place."""
    sampling = Sampling("euler", 3, 2.0, per_device_batch=8)
    alone = draw(GENERATOR, replace(sampling, guidance=1.0), LABELS, INDICES).astype(int)
    near = draw(replace(GENERATOR, negative=GENERATOR), sampling, LABELS, INDICES)
    assert np.abs(near - alone).max() <= 1  # float32 rounding before that to uint8
    one, zero = (Generator(_Constant(value), _Plain(), {"w": np.zeros(1)}, K, SHAPE) for value in (0.25, 0.0))
    guided = replace(one, negative=zero)
    assert (draw(guided, sampling, LABELS, INDICES) == round(1.5 * 127.5)).all()  # 0 + 2 (0.25 - 0)
    assert len({one.digest, guided.digest, replace(one, negative=one).digest}) == 3


class _Constant(nn.Module):
    """The same estimate of every image."""

    value: float

    def __call__(self, x, c, label, keys=None, train=False):
        return jnp.full_like(x, self.value)


class _Plain(EDM):
    """Takes what the network answers for the estimate."""

    def denoiser(self, net):
        return net


def test_guidance_asks_for_the_null_class_only_where_it_is_on():
    drawn = {}
    for null in (0.0, 3.0):
        generator = Generator(Net(null), EDM(), randomised(Net()), K, SHAPE)
        for guidance in (1.0, 2.0):
            sampling = Sampling("euler", 3, guidance, per_device_batch=8)
            drawn[null, guidance] = draw(generator, sampling, LABELS, INDICES)
    np.testing.assert_array_equal(drawn[0.0, 1.0], drawn[3.0, 1.0])
    assert not np.array_equal(drawn[0.0, 2.0], drawn[3.0, 2.0])
    assert not np.array_equal(drawn[0.0, 1.0], drawn[0.0, 2.0])


def test_clip_keeps_every_estimate_in_range():
    """An answer far outside ends at the border without it too; on the way it makes a difference."""
    generator = Generator(Net(), EDM(), randomised(Net()), K, SHAPE)
    free, clipped = (
        draw(generator, Sampling("euler", 3, clip=clip, per_device_batch=8), LABELS, INDICES) for clip in (False, True)
    )
    assert not np.array_equal(free, clipped)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"solver": "plms"}, r"'plms': expected \['ancestral', 'dpmpp_2m', 'euler', 'heun'\]"),
        ({"num_steps": 0}, "num_steps 0"),
        ({"per_device_batch": 0}, "per_device_batch 0"),
        ({"guidance": -1.0}, "guidance -1.0: expected"),
    ],
)
def test_sampling_refuses_what_cannot_be_drawn(option, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**option)


def test_images_that_are_no_numbers_are_refused():
    """One NaN among the parameters; cast alone it would draw black images."""
    leaves, tree = jax.tree.flatten(GENERATOR.params)
    broken = replace(GENERATOR, params=jax.tree.unflatten(tree, [np.full_like(leaves[0], np.nan), *leaves[1:]]))
    with pytest.raises(
        writing.NonFiniteImage, match="4 of 4 images came out NaN or infinite, first number 0 of class 0"
    ):
        draw(broken, SAMPLING, LABELS[:4], INDICES[:4])
