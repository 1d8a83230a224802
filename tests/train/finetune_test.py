"""Laws of train/finetune.py: what is learnt, what stays, and that neither devices nor prompts of others matter."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_stable_diffusion as tiny

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.diffusion import noise
from jaxmoust.core.optim import Recipe
from jaxmoust.core.tree import named_leaves
from jaxmoust.data.loading.loader import eval_stream
from jaxmoust.data.source import from_arrays
from jaxmoust.models.stable_diffusion import add_tokens, lora
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train import finetune
from jaxmoust.train.finetune import Finetune
from jaxmoust.train.loop import init_state, make_step

K, SHAPE = 3, (8, 8, 1)
PROMPTS = (("a photo of a cat", "a cat"), ("a dog",), ("do",))
RECIPE = Recipe(batch_size=8, num_steps=100, learning_rate=2e-3, ema_half_life_images=100.0)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return tiny.make_pipeline(tmp_path_factory.mktemp("first"), 1, shallow=True)


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    return tiny.make_pipeline(tmp_path_factory.mktemp("second"), 2, shallow=True)


@pytest.fixture(scope="module")
def whole(first):
    """The whole U-Net, predicting noise."""
    return Finetune(first.pipeline, K, SHAPE, 16)


@pytest.fixture(scope="module")
def adapted(second):
    """Adapters of the U-Net and the text encoder, predicting v."""
    text = {"text_targets": tiny.TEXT_ATTENTION}
    return Finetune(second.pipeline, K, SHAPE, 16, rank=4, alpha=4.0, min_snr=5.0, **text)


@pytest.fixture(scope="module")
def flowing(tmp_path_factory):
    """A pipeline of 3.5, and adapters of its transformer."""
    loaded = tiny.make_pipeline(tmp_path_factory.mktemp("flow"), "sd35", shallow=True)
    how = {"rank": 4, "alpha": 4.0, "targets": ("to_q", "to_out_0", "add_v_proj"), "precompute": True}
    return loaded, Finetune(loaded.pipeline, K, SHAPE, 16, **how)


def test_adapters_of_a_flow_learn_alike_on_one_device_and_four(flowing):
    """Text is encoded before the first step, latents too: of the pipeline, steps are given the transformer alone."""
    loaded, task = flowing
    frozen = task.frozen(loaded.params, PROMPTS)
    assert frozen.keys() == {"num_prompts", "of_class", "vae", "transformer", "position", "states"}
    assert frozen["position"].shape == (16, 32)  # of the size that is trained
    state, one = train(task, loaded.params, 12, 1)
    assert np.mean(one[-4:]) < np.mean(one[:4])
    assert {name.partition("/")[0] for name in state.params["lora"]} == {"transformer"}
    _, four = train(task, loaded.params, 2, 4)
    np.testing.assert_allclose(four, one[:2], rtol=2e-4)


@pytest.mark.parametrize(("kind", "trained"), [("xl", "unet"), ("sd3", "transformer")])
def test_whole_network_of_every_kind_is_what_is_trained(tmp_path, kind, trained):
    """On shapes: one branch in float32 whatever the parameters are, text encoders nowhere, a finite gradient's tree."""
    loaded = tiny.make_pipeline(tmp_path, kind, shallow=True)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), loaded.params)
    task = Finetune(loaded.pipeline, K, SHAPE, 16)
    state = task.start(half)(init_state(task, RECIPE, 0))
    assert set(state.params) == {trained}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"float32"}
    frozen = task.frozen(loaded.params, PROMPTS)
    assert not {"text_encoder", trained} & frozen.keys()
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 8))
    slopes = jax.eval_shape(
        jax.grad(lambda p, *given: task.loss(p, {}, *given)[0]), state.params, frozen, make_batch(), keys
    )
    assert jax.tree.structure(slopes) == jax.tree.structure(state.params)


def test_adapters_under_a_whole_training_are_added_in_float32(first):
    """To parameters in bfloat16, whose eight bits would lose most of them."""
    adapters = lora.init(jax.random.key(0), {"text_encoder": first.params["text_encoder"]}, 1, ("q_proj",))
    name = min(adapters)
    adapters = {name: {"A": adapters[name]["A"], "B": jnp.full_like(adapters[name]["B"], 1e-4)}}
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), first.params)
    task = Finetune(first.pipeline, K, SHAPE, 16, train_text=True)
    start = task.start(lora.attach(half, adapters))(init_state(task, RECIPE, 0))
    kernel = named_leaves(half)[f"{name}/kernel"].astype(np.float32)
    expected = kernel + np.asarray(adapters[name]["A"] @ adapters[name]["B"])
    np.testing.assert_allclose(named_leaves(start.params)[f"{name}/kernel"], expected, rtol=0, atol=1e-7)  # float32


def make_batch(num=8):
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (num, *SHAPE), dtype=np.uint8),
        "label": np.arange(num, dtype=np.int32) % K,
        "source": np.zeros(num, np.int32),
        "index": np.arange(num, dtype=np.int32),
        "slot": np.arange(num, dtype=np.uint32),
    }


def train(task, params, num_steps, num_devices, recipe=RECIPE, prompts=PROMPTS):
    """Trains on one batch again and again; returns the state and the losses."""
    machine = Machine.local(num_devices)
    step = make_step(task, recipe, machine)
    state = init_state(task, recipe, 0)
    state = machine.replicate(task.start(params)(state))
    frozen = machine.replicate(task.frozen(params, prompts, all_images(), machine))
    seed, losses = machine.replicate(np.uint32(0)), []
    for _ in range(num_steps):
        state, metrics = step(state, frozen, seed, machine.split(make_batch()))
        losses.append(float(metrics["loss"]))
    return jax.device_get(state), losses


@pytest.fixture(scope="module")
def trained(whole, first):
    return train(whole, first.params, 40, 1)


@pytest.fixture(scope="module")
def trained_adapters(adapted, second):
    return train(adapted, second.params, 40, 1)


def all_images():
    batch = make_batch()
    return eval_stream(from_arrays(batch["image"], batch["label"], ["a", "b", "c"]), 8, image_px=SHAPE[0], channels=1)


def judge(task, state, params, prompts=PROMPTS):
    """The loss at fixed noise on the images that were trained on."""
    data = {"train": all_images()}
    machine = Machine.local(1)
    state, frozen = machine.replicate(state), machine.replicate(task.frozen(params, prompts))
    return task.evaluate(state, frozen, data, machine).metrics["loss_train"]


def test_whole_unet_learns(whole, first, trained):
    state, losses = trained
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    fresh = whole.start(first.params)(init_state(whole, RECIPE, 0))
    assert judge(whole, state, first.params) < 0.95 * judge(whole, fresh, first.params)
    tuned = whole.fine_tuned(first.params, state.params)
    assert tuned["vae"] is first.params["vae"] and tuned["text_encoder"] is first.params["text_encoder"]
    assert not np.array_equal(tuned["unet"]["conv_in"]["kernel"], first.params["unet"]["conv_in"]["kernel"])


def test_adapters_learn_and_nothing_else_is_in_the_state(adapted, second, trained_adapters):
    state, _ = trained_adapters
    assert judge(adapted, state, second.params) < judge(adapted, init_state(adapted, RECIPE, 0), second.params)
    adapters = state.params["lora"]
    assert set(state.params) == {"lora"} and {name.partition("/")[0] for name in adapters} == {"unet", "text_encoder"}
    assert {name.rpartition("/")[2] for name in named_leaves(adapters)} == {"A", "B"}
    before, after = (
        named_leaves(second.params),
        named_leaves(lora.merged(adapted.fine_tuned(second.params, state.params))),
    )
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {f"{name}/kernel" for name in adapters}


@pytest.fixture(scope="module")
def words(first):
    """A pipeline with a word for each class, and the task of learning those alone."""
    loaded = add_tokens(first, {"<a>": "cat", "<b>": "dog", "<c>": "do"})
    return loaded, Finetune(loaded.pipeline, K, SHAPE, 16, train_unet=False, num_tokens=3, caption_dropout=0.0)


def test_new_words_learn_and_nothing_else_is_in_the_state(words):
    loaded, task = words
    prompts = (("a photo of <a>",), ("<b>",), ("<c>",))
    state, _ = train(task, loaded.params, 20, 1, replace(RECIPE, learning_rate=0.05), prompts)
    fresh = task.start(loaded.params)(init_state(task, RECIPE, 0))
    assert judge(task, state, loaded.params, prompts) < judge(task, fresh, loaded.params, prompts)
    assert {name: leaf.shape for name, leaf in state.params.items()} == {"tokens": (3, 32)}
    before, after = named_leaves(loaded.params), named_leaves(task.fine_tuned(loaded.params, state.params))
    (name,) = {name for name in before if not np.array_equal(before[name], after[name])}
    changed = np.any(before[name] != after[name], -1)
    assert name.startswith("text_encoder") and np.flatnonzero(changed).tolist() == list(range(len(changed)))[-3:]


def test_text_encoder_learns_whole_when_told_to(first):
    task = Finetune(first.pipeline, K, SHAPE, 16, train_text=True)
    state, _ = train(task, first.params, 2, 1)
    before, after = named_leaves(first.params), named_leaves(task.fine_tuned(first.params, state.params))
    changed = {name.partition("/")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"unet", "text_encoder"}
    assert set(task.frozen(first.params, PROMPTS)) == {"num_prompts", "of_class", "vae", "ids"}


@pytest.mark.parametrize("flip", [False, True])
def test_latents_of_before_the_first_step_train_as_those_of_the_step(whole, first, trained, flip):
    """Encoded once or at every step, the same draws from the same posteriors: losses agree to float error."""
    how = {"augment": Augment(flip=flip)}
    _, now = train(replace(whole, **how), first.params, 3, 1) if flip else trained
    _, before = train(replace(whole, precompute=True, **how), first.params, 3, 1)
    np.testing.assert_allclose(before, now[:3], rtol=1e-4)


@pytest.mark.parametrize("which", ["whole", "adapted"])
def test_four_devices_learn_what_one_does(request, which):
    task = request.getfixturevalue(which)
    loaded = request.getfixturevalue({"whole": "first", "adapted": "second"}[which])
    _, one = request.getfixturevalue({"whole": "trained", "adapted": "trained_adapters"}[which])
    _, four = train(task, loaded.params, 4, 4)
    np.testing.assert_allclose(four, one[:4], rtol=2e-4)


def test_loss_is_the_error_of_the_noise_that_the_network_predicts(whole, first):
    """Recomputed by hand from the same keys, in DDPM's own coordinates."""
    frozen, batch, pipeline = whole.frozen(first.params, PROMPTS), make_batch(3), first.pipeline
    keys = jax.random.split(jax.random.key(5), 3)
    loss, _ = jax.jit(whole.loss)({"unet": first.params["unet"]}, {}, frozen, batch, keys)
    k_augment, k_latent, k_prompt, k_drop, k_sigma, k_noise = jax.vmap(
        lambda key: jax.random.split(key, 6), out_axes=1
    )(keys)
    del k_augment
    image = np.repeat(batch["image"].astype(np.float32) / 127.5 - 1, 3, -1)
    latent = pipeline.encode_image(frozen, jax.image.resize(image, (3, 16, 16, 3), "linear"), k_latent)
    sigma = np.asarray(noise.uniform_sigma(k_sigma, pipeline.table))
    eps = noise.normal_like(k_noise, (8, 8, 4))
    wide = sigma[:, None, None, None]
    x_t = (latent + wide * eps) / np.sqrt(1 + wide**2)
    t = np.array([np.abs(pipeline.table - s).argmin() for s in sigma])
    states = []
    for i, label in enumerate(batch["label"]):
        number = int(jax.random.randint(k_prompt[i], (), 0, len(PROMPTS[label])))
        dropped = bool(jax.random.bernoulli(k_drop[i], whole.caption_dropout))
        ids = pipeline.tokenize(["" if dropped else PROMPTS[label][number]])
        states.append(np.asarray(pipeline.encode_text(first.params, ids))[0])
    variables = {"params": first.params["unet"]}
    said = pipeline.unet.apply(variables, x_t, jnp.asarray(t), jnp.stack(states))
    by_hand = np.mean((np.asarray(said) - eps) ** 2)
    assert float(loss) == pytest.approx(float(by_hand), rel=2e-3)


@pytest.mark.parametrize("which", ["whole", "adapted"])
def test_bounded_weight_is_hangs(request, which, first):
    task = replace(request.getfixturevalue(which), min_snr=5.0)
    sigma = jnp.array([0.05, 0.2, 0.5, 2.0, 10.0])
    snr = 1 / sigma**2
    # Hang et al., Eq. 8 and below: in the error of x0 the weight is min(snr, gamma), whatever is predicted.
    np.testing.assert_allclose(task.weight(sigma), jnp.minimum(snr, 5.0), rtol=1e-5)
    plain = replace(task, min_snr=0.0).weight(sigma)
    np.testing.assert_allclose(plain, snr if which == "whole" else snr + 1, rtol=1e-5)


def test_classes_without_prompts_and_impossible_settings_are_refused(whole, first):
    with pytest.raises(ValueError, match="prompts of 2 classes, the images have 3"):
        whole.frozen(first.params, PROMPTS[:2])
    for settings, said in (
        ({"caption_dropout": 1.0}, "caption_dropout 1.0"),
        ({"rank": 4}, "an alpha above 0 exactly where there is a rank"),
        ({"alpha": 4.0}, "an alpha above 0 exactly where there is a rank"),
        ({"text_targets": ("q_proj",)}, "needs a rank"),
        ({"augment": Augment(mixup=0.2)}, "blend classes"),
        ({"train_text": True, "rank": 4, "alpha": 4.0}, "train_text trains the whole"),
        ({"train_unet": False}, "Nothing would be trained"),
        ({"precompute": True, "augment": Augment(flip=True, crop_px=1)}, "may flip and nothing else"),
        ({"image_px": 17}, "multiples of 2"),
    ):
        with pytest.raises(ValueError, match=said):
            Finetune(first.pipeline, K, SHAPE, **({"image_px": 16} | settings))


def test_each_image_is_trained_on_its_own_caption_encoded_before_or_in_the_step(first, monkeypatch):
    """Captions that say what the class prompts do give their loss; a texts' encoder in the step gives the same."""
    task = Finetune(first.pipeline, K, SHAPE, 16, caption_dropout=0.0)
    batch, keys = make_batch(), jax.random.split(jax.random.key(0), 8)
    of_class = tuple(some[0] for some in PROMPTS)
    own = tuple(of_class[label] for label in batch["label"])
    params = {part: first.params[part] for part in task.whole}

    @jax.jit
    def losses(frozen, batch):
        one = jax.vmap(lambda i: jax.tree.map(lambda x: x[i][None], (batch, keys)))(jnp.arange(8))
        return jax.lax.map(lambda given: task.loss(params, {}, frozen, *given)[0], one)

    def of(captions):
        prompts = tuple((text,) for text in of_class)
        return np.asarray(losses(task.frozen(first.params, prompts, captions=captions), batch))

    plain, same, other = of(()), of(own), of((*own[:3], "do", *own[4:]))
    np.testing.assert_array_equal(same, plain)
    assert (other != plain).tolist() == [i == 3 for i in range(8)]
    monkeypatch.setattr(finetune, "_MOST_STATES_BYTES", 0)
    assert {"ids", "text_encoder"} < task.frozen(first.params, PROMPTS).keys()
    np.testing.assert_allclose(of(own), plain, rtol=1e-5)


def test_images_of_the_prior_weigh_what_they_are_said_to(first):
    batch, keys = make_batch(), jax.random.split(jax.random.key(0), 8)
    batch["source"] = np.array([0, 1] * 4, np.int32)
    rows = []
    for weight in (1.0, 0.25):
        task = Finetune(first.pipeline, K, SHAPE, 16, caption_dropout=0.0, prior_weight=weight)
        params = {part: first.params[part] for part in task.whole}
        frozen = task.frozen(first.params, PROMPTS, prior=("a cat",) * 8)
        of_half = [jax.tree.map(lambda x, k=k: x[k::2], (batch, keys)) for k in (0, 1)]
        rows.append([float(jax.jit(task.loss)(params, {}, frozen, *half)[0]) for half in of_half])
    assert rows[1][0] == pytest.approx(rows[0][0], rel=1e-6) and rows[1][1] == pytest.approx(rows[0][1] / 4, rel=1e-6)


@pytest.mark.parametrize("captions", [("a photo of a cat",) * 8, ()])
def test_images_of_the_prior_are_trained_under_the_texts_that_they_were_sampled_by(first, captions):
    """As real images are under captions, and whatever the real images' own prompts or captions are."""
    task = Finetune(first.pipeline, K, SHAPE, 16, caption_dropout=0.0)
    params, keys = {part: first.params[part] for part in task.whole}, jax.random.split(jax.random.key(0), 8)
    texts = tuple(PROMPTS[i % K][0] for i in range(8))
    loss = jax.jit(task.loss)

    def of(frozen, source):
        return float(loss(params, {}, frozen, {**make_batch(), "source": np.full(8, source, np.int32)}, keys)[0])

    sampled_by = task.frozen(first.params, (("do",),) * K, captions=captions, prior=texts)
    under_them = task.frozen(first.params, (("do",),) * K, captions=texts)
    assert of(sampled_by, 1) == pytest.approx(of(under_them, 0), rel=1e-6)
    assert of(sampled_by, 0) != pytest.approx(of(under_them, 0), rel=1e-6)
