"""The jobs that train parts of a Stable Diffusion pipeline on a data set's images (verb `fit`).

"finetune" teaches its U-Net, adapters or new words; "autoencode" its VAE.
"""

import functools
import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmoust import build
from jaxmoust.build import Config, RealData
from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.state import TrainState
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers import share
from jaxmoust.data.sources import registry as sources
from jaxmoust.generate import prompts, text_to_image
from jaxmoust.jobs import pipelines
from jaxmoust.jobs.job import (
    AUTOENCODE_SECTIONS,
    FINETUNE_SECTIONS,
    Resolve,
    Work,
    base_size,
    evaluation_stream,
    fit_eval_data,
    open_real_data,
    run_fit,
    training_stream,
)
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import Loaded, memory
from jaxmoust.report import contact_sheet
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.paths import atomic_write
from jaxmoust.train.autoencode import Autoencode
from jaxmoust.train.finetune import Finetune


@dataclass(frozen=True)
class Plan:
    """A training of parts of a pipeline that can start.

    Args:
        loaded: the pipeline, with the words that are to be learnt. words: class -> what it is called in a prompt.
        asked: the prompts of each class.
    """

    real: RealData
    training: build.Training
    loaded: Loaded
    words: dict[str, str]
    asked: prompts.Prompts
    frozen: dict[str, Any]
    machine: parallel.Machine

    @functools.cached_property
    def need(self) -> memory.Need:
        """What a step takes on each device; traced when it is asked for, which a study on CPUs never does."""
        return _need(self.training, self.frozen, self.real, self.machine)


def fit_pipeline(config: Config, resolve: Resolve = Path) -> Work:
    """Trains parts of a pipeline (verb `fit`, tasks "finetune" and "autoencode")."""
    machine = parallel.Machine.all()
    plan = plan_pipeline(config, machine, resolve=resolve)
    real, training, loaded = plan.real, plan.training, plan.loaded
    task, frozen, class_names = training.task, plan.frozen, real.base.class_names
    precompute = getattr(task, "precompute", False)
    eval_data = fit_eval_data(real, config, machine)
    pool = Pool.from_sources([real.base])
    sampler = share.Random(pool, config["seed"])
    stream_from = training_stream(pool, sampler, real, training.recipe, machine, pixels=not precompute)

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        print(f"each device needs about {plan.need}")
        given = frozen
        if precompute:
            images = evaluation_stream(real.base, real.shape, config, machine)
            given = task.frozen(loaded.params, plan.asked, images, machine)
        seconds_before = time.monotonic() - started
        watch = _watch(config, plan, folder, machine) if config["task"] == "finetune" else None
        state, evaluation, seconds = run_fit(
            training,
            stream_from,
            eval_data,
            folder,
            machine,
            config["seed"],
            config["task"],
            task.start(loaded.params),
            given,
            watch,
        )
        trained = parallel.to_host(state.ema["params"] if state.ema else state.params)
        if machine.primary:
            _leave(folder.path, config, plan, trained, evaluation.metrics)
        machine.barrier("left")
        tuned = pipelines.left(folder.path, config["pipeline"], resolve)
        return {
            **evaluation.metrics,
            "steps": training.recipe.num_steps,
            "n_base": base_size(real),
            "data_digest": real.base.digest,
            "image_shape": real.shape,
            "class_names": class_names,
            "words": plan.words,
            "generator": text_to_image.digest(tuned),
            "method": "stable_diffusion",
            "num_trained": sum(leaf.size for leaf in jax.tree.leaves(trained)),
            "seconds": seconds + seconds_before,
        }

    return work


def plan_pipeline(
    config: Config,
    machine: parallel.Machine,
    open_real: Callable[[Config], RealData] | None = None,
    resolve: Resolve = Path,
) -> Plan:
    """Opens the images and the pipeline of a configuration and builds its training.

    Raises: ValueError: whatever does not fit, before anything is computed.
    """
    tuning = config.get("task") == "finetune"
    build.check_sections(config, FINETUNE_SECTIONS if tuning else AUTOENCODE_SECTIONS, config.get("task"))
    real = (open_real or open_real_data)(config["data"])
    class_names = real.base.class_names
    loaded, words, asked, method = pipelines.open_pipeline(config["pipeline"], resolve), {}, (), dict(config["method"])
    if tuning:
        per_class, like = method.pop("learn_tokens", 0), method.pop("token_like", "")
        if per_class:
            words = new_words(class_names, per_class)
            starts = {word: like or name for name, text in words.items() for word in text.split()}
            loaded = stable_diffusion.add_tokens(loaded, starts)
        asked = build.unpack("prompts", prompts.read, config["prompts"], class_names=class_names, words=words or None)
        method["num_tokens"] = per_class * len(class_names)
    method = {k: tuple(v) if isinstance(v, list) else v for k, v in method.items()}
    given = {"pipeline": loaded.pipeline, "augment": build.unpack("augment", Augment, config["augment"])}
    made = Finetune if tuning else Autoencode
    if real.random_crop and method.get("precompute"):
        raise ValueError("method.precompute encodes each image once: allowed is data.random_crop=0, or no precompute.")

    def make_task(config: Config, shape: tuple, num_classes: int):
        sizes = {"num_classes": num_classes} if tuning else {}
        return build.unpack("method", made, method, image_shape=shape, **sizes, **given)

    frozen: dict[str, Any] = {}

    def make_frozen(task: Any) -> Any:
        frozen.update(task.frozen(loaded.params, asked))
        return frozen

    metrics = ("loss_train", "loss_heldout") if real.unused is not None else ("loss_train",)
    training = build.make_training(make_task, config, real.shape, len(class_names), metrics, machine, make_frozen)
    if tuning:
        _grid(config, asked, training.task.image_px)
    plan = Plan(real, training, loaded, words, asked, frozen, machine)
    if machine.memory_bytes and plan.need.total > machine.memory_bytes:
        raise ValueError(
            f"A step needs about {plan.need}; a device has {machine.memory_bytes / 2**30:.1f} GiB. Take a smaller "
            "train.batch_size, more optim.micro_batches, pipeline.remat=True, method.precompute=True, or adapters."
        )
    return plan


def _need(training: build.Training, frozen: dict, real: RealData, machine: parallel.Machine) -> memory.Need:
    """What a step takes on each device, read from shapes."""
    task, recipe = training.task, training.recipe
    rows, precompute = recipe.rows(machine), getattr(task, "precompute", False)
    frozen = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), frozen)
    batch = {name: jax.ShapeDtypeStruct((rows,), np.int32) for name in ("label", "index", "slot")}
    if precompute:
        size = (len(real.base), 1 + task.augment.flip, *task.pipeline.latent_shape(task.image_px))
        frozen["latents"] = dict.fromkeys(("mean", "std"), jax.ShapeDtypeStruct(size, np.float32))
    else:
        batch["image"] = jax.ShapeDtypeStruct((rows, *real.shape), np.uint8)

    def loss(params: Any, frozen: Any, batch: Any) -> jax.Array:
        return task.loss(params, {}, frozen, batch, jax.vmap(jax.random.key)(batch["slot"]))[0]

    params = jax.eval_shape(lambda: task.init(jax.random.key(0))[0])
    average = bool(recipe.ema_half_life_images)
    return memory.of_training(loss, params, frozen, batch, recipe.tx, average, recipe.micro_batches)


def new_words(class_names: tuple[str, ...] | list[str], per_class: int) -> dict[str, str]:
    """What each class is called once its words are learnt: "Basophil" -> "<basophil>", or "<basophil-0> <basophil-1>".

    Raises: ValueError: a number below 1, or class names that come to the same.
    """
    if per_class < 1:
        raise ValueError(f"method.learn_tokens {per_class}: allowed are whole numbers from 0 (off), for each class.")
    plain = [re.sub(r"[^a-z0-9]+", "-", str(name).lower()).strip("-") for name in class_names]
    if len(set(plain)) < len(plain) or not all(plain):
        raise ValueError(f"Got classes {list(class_names)}, which as new words are {plain}: give them distinct names.")
    ends = [""] if per_class == 1 else [f"-{number}" for number in range(per_class)]
    return {name: " ".join(f"<{word}{end}>" for end in ends) for name, word in zip(class_names, plain, strict=True)}


def _leave(folder: Path, config: Config, plan: Plan, trained: Any, metrics: dict[str, float]) -> None:
    task = plan.training.task
    if config["task"] == "autoencode":
        pipelines.leave(folder, task.tuned(plan.loaded, trained, metrics))
        return
    tuned = Loaded(plan.loaded.pipeline, task.tuned(plan.loaded.params, trained))
    if task.whole:
        pipelines.leave(folder, tuned)
        return
    words = tuple(word for text in plan.words.values() for word in text.split())
    pipelines.leave(folder, tuned, trained.get("lora"), task.alpha, words)


def _grid(config: Config, asked: prompts.Prompts, image_px: int) -> tuple[int, text_to_image.Request]:
    """Reads the section grid: (images of each class, what is asked for)."""
    section = dict(config["grid"])
    per_class = section.pop("per_class", None)
    if not isinstance(per_class, int) or per_class < 0:
        raise ValueError(f"config.grid.per_class {per_class}: allowed are whole numbers from 0 (no pictures).")
    first = tuple(some[:1] for some in asked)
    return per_class, build.unpack("grid", text_to_image.Request, section, prompts=first, image_px=image_px)


def _watch(config: Config, plan: Plan, folder: RunFolder, machine: parallel.Machine) -> Callable | None:
    """Draws a few images of each class with the same prompts and seed at every evaluation: grids/step_N.png."""
    task, names = plan.training.task, plan.real.base.class_names
    per_class, request = _grid(config, plan.asked, task.image_px)
    if not per_class or not machine.primary:
        return None
    labels = np.repeat(np.arange(len(names)), per_class)
    indices = np.tile(np.arange(per_class), len(names))
    devices = parallel.Machine.local()

    def watch(state: TrainState) -> None:
        trained = parallel.to_host(state.ema["params"] if state.ema else state.params)
        now = Loaded(plan.loaded.pipeline, task.tuned(plan.loaded.params, trained))
        drawn = np.concatenate(list(text_to_image.draw(now, request, 0, labels, indices, devices)))
        sheet = contact_sheet.contact_sheet(sources.from_arrays(drawn, labels, names), per_class)
        (folder.path / "grids").mkdir(exist_ok=True)
        content = io.BytesIO()
        sheet.save(content, "png")
        atomic_write(folder.path / "grids" / f"step_{int(state.step):06d}.png", content.getvalue())

    return watch
