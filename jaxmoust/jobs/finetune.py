"""Verb `fit`, tasks `finetune` and `autoencode`: trains parts of a Stable Diffusion pipeline on a data set's images

Task `finetune` trains the U-Net, adapters (LoRA) or new words, and leaves pipeline/, lora.safetensors or tokens/, which
torch's diffusers reads; task `autoencode` trains the VAE.

  jaxmoust fit --config=configs/generator/digits_tiny_sd_lora.py --workdir=runs/tiny_sd_lora
"""

import functools
import io
import math
import re
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from jaxmoust import build
from jaxmoust.config import Field, fields, unpack
from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.state import TrainState
from jaxmoust.core.tree import zeros_of
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.base import Sampler
from jaxmoust.data.samplers.share import Share
from jaxmoust.data.samplers.shuffle import Random
from jaxmoust.data.source import Source, from_arrays
from jaxmoust.data.synthetic.store import read_labelled, read_spec
from jaxmoust.generate import prompts, text_to_image
from jaxmoust.generate.writing import seconds_of_parts
from jaxmoust.jobs.parts import pipelines
from jaxmoust.jobs.parts.job import Job
from jaxmoust.jobs.parts.streams import (
    base_size,
    evaluation_batch_size,
    evaluation_stream,
    fit_eval_data,
    plain_form,
    run_fit,
    seconds_an_image,
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
from jaxmoust.train.loop import Images, rows_of, seconds_a_step

_GIVEN = ("pipeline", "image_shape", "num_classes", "num_tokens", "augment")
_TRAINING = {
    **build.SEED,
    "pipeline": pipelines.PIPELINE_SECTION,
    "data": build.DATA,
    "augment": build.AUGMENT,
    "optim": build.OPTIM,
    "train": build.TRAIN,
    "eval": build.EVAL,
}


class TunePipeline(Job):
    """What the two trainings of parts of a pipeline have in common."""

    images = ("base", "unused")
    refers: ClassVar[tuple[str, ...]] = pipelines.REFERS
    asked: prompts.Prompts = ()
    prior: Source | None = None
    captions: tuple[str, ...] = ()
    words: dict[str, str] = {}

    @abstractmethod
    def make_task(self) -> Callable[..., Any]:
        """Opens what the training is of, and returns what makes its task."""

    @abstractmethod
    def save(self, folder: Path, trained: Any, metrics: dict[str, float]) -> None:
        """Writes what was learnt."""

    def watch(self, folder: RunFolder) -> Callable[[TrainState], None] | None:
        """What is called at every evaluation."""
        return None

    def check(self) -> None:
        """Opens the pipeline, builds the training, and compares its memory with the device's."""
        config = self.config
        self.real = real = self.inputs.real(config["data"])
        self.class_names = real.base.class_names
        self.loaded = pipelines.open_pipeline(config["pipeline"], self.inputs)
        if self.loaded.by_class:
            raise ValueError(
                f"config.pipeline.path {config['pipeline']['path']} has adapters for each class: fine-tune what these "
                "started from."
            )
        if real.random_crop and config["method"].get("precompute"):
            raise ValueError("method.precompute encodes each image once: set data.random_crop=0, or precompute=False.")
        make = self.make_task()
        alone = real.unused is None or config["method"].get("per") == "class"
        metrics = ("loss_train",) if alone else ("loss_train", "loss_heldout")
        self.training = build.make_training(
            lambda config, shape, num_classes: make(image_shape=shape),
            config,
            real.shape,
            len(self.class_names),
            metrics,
            self.machine,
            rehearse=False,
        )
        texts = {"captions": self.captions, "prior": self._prior_texts(real.base)}
        frozen = self.training.task.frozen(self.loaded.params, self.asked, **texts, encode=False)
        self.shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), frozen)
        self.check_grid()
        available = self.machine.memory_bytes
        with build.network_refusals("config.pipeline", real.shape):
            what, need = _largest(self._stages(at_most=True))
            if need.total > available:
                what, need = _largest(self._stages(at_most=False))
        if need.total > available:
            raise ValueError(
                f"{what} needs about {need}; a device has {available / 2**30:.1f} GiB. Take a smaller "
                "train.batch_size, eval.batch_size or grid.per_device_batch, more optim.micro_batches, "
                "pipeline.remat=True, method.precompute=True, or adapters."
            )

    def check_grid(self) -> None:
        """Reads what is sampled at evaluations."""

    @functools.cached_property
    def frozen(self) -> dict[str, Any]:
        """What the steps use and do not train; texts are encoded when it is asked for."""
        texts = {"captions": self.captions, "prior": self._prior_texts(self.real.base)}
        return dict(self.training.task.frozen(self.loaded.params, self.asked, **texts))

    def contents(self) -> dict[str, str]:
        """The images, the pipeline, the words, and the captions that are trained on."""
        wanted = self.config.get("prompts", {}).get("contexts")
        digest = self.inputs.real(self.config["data"]).base.captions_digest if wanted else ""
        return {**super().contents(), **({"data.captions": digest} if digest else {})}

    def promise(self) -> dict[str, Any]:
        """What is known of the pipeline before it is trained."""
        section = self.config["pipeline"]
        return {
            "n_base": base_size(self.real),
            "data_digest": self.real.base.digest,
            "image_shape": self.real.shape,
            "class_names": self.class_names,
            "words": self.words,
            "adapters": self.config["method"].get("per", "dataset"),
            "method": "stable_diffusion",
            **pipelines.origin(section, pipelines.fine_tuned(section, self.inputs)),
        }

    def opened(self) -> Loaded:
        """The pipeline that the training starts from, with its new words: sets ask it what a prompt may be."""
        return self.loaded

    def open(self) -> None:
        """Opens the streams."""
        real, machine = self.real, self.machine
        self.eval_data = fit_eval_data(real, self.config, machine)
        pixels, sampler = not self.config["method"].get("precompute", False), self.sampler_of(real.base)
        self.stream_from = training_stream(sampler.pool, sampler, real, self.training.recipe, machine, pixels=pixels)

    def sampler_of(self, images: Source) -> Sampler:
        """The order in which images are trained on, and, where there is a prior, those of its set of their classes."""
        seed = self.config["seed"]
        if not self.prior:
            return Random(Pool.from_sources([images]), seed)
        pool = Pool.from_sources([images, _of_classes(self.prior, images)])
        return Share(pool, dict.fromkeys(pool.source_names, 0.5), seed)

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Trains, and leaves what was learnt."""
        started, config, task = time.monotonic(), self.config, self.training.task
        print(f"each device needs about {self.need}")
        if config["method"].get("precompute"):
            images = evaluation_stream(self.real.base, plain_form(self.real.shape), config, self.machine)
            self.frozen = task.frozen(self.loaded.params, self.asked, images, self.machine, self.captions)
        start, frozen = task.start(self.loaded.params), self.frozen
        seconds_before = time.monotonic() - started
        state, evaluation, seconds = run_fit(
            self.training,
            self.stream_from,
            self.eval_data,
            folder,
            self.machine,
            config["seed"],
            config["task"],
            start,
            frozen,
            self.watch(folder),
        )
        trained = parallel.to_host(state.ema["params"] if state.ema else state.params)
        if self.machine.primary:
            self.save(folder.path, trained, evaluation.metrics)
        self.machine.barrier("left")
        tuned = pipelines.open_fine_tuned(folder.path, config["pipeline"], self.inputs)
        return {
            **evaluation.metrics,
            "steps": self.training.recipe.num_steps,
            **self.promise(),
            "generator": text_to_image.digest(tuned),
            **({"captions": self._caption_report()} if self.captions else {}),
            "num_trained": sum(leaf.size for leaf in jax.tree.leaves(trained)),
            "trained_on": folder.devices,
            "seconds": seconds + seconds_before,
        }

    def calibrate(self) -> float:
        """By one step, and of latents that are computed before by a batch of black images that are encoded."""
        task, frozen, encoding = self.training.task, self.frozen, 0.0
        if self.config["method"].get("precompute"):

            def encode(images: Images) -> dict[str, np.ndarray]:
                return rows_of(Finetune.posteriors, task, self.loaded.params["vae"], images, self.machine)

            encoding = seconds_an_image(encode, self.real.shape, self.config, self.machine) * len(self.real.base)
            frozen = {**frozen, "latents": zeros_of(self._latents(1))}
        step = seconds_a_step(self.training, self.machine, self.real.shape, frozen)
        times = len(self.class_names) if self.config["method"].get("per") == "class" else 1
        return encoding + times * self.training.recipe.num_steps * step

    def _latents(self, num_images: int) -> dict[str, jax.ShapeDtypeStruct]:
        """The shapes of so many images' latents, where they are computed before."""
        task = self.training.task
        size = (num_images, 1 + task.augment.flip, *task.pipeline.latent_shape(task.image_px))
        return dict.fromkeys(("mean", "std"), jax.ShapeDtypeStruct(size, np.float32))

    def _prior(self, ref: str) -> Source | None:
        """Opens the set of images that keep the pipeline what it is. Raises: ValueError: one that does not fit."""
        if not ref:
            return None
        prior = self.inputs.synthetic(ref, self.real.base)
        if self.config["method"]["precompute"]:
            raise ValueError(
                "method.prior with method.precompute, which encodes the real images alone: set it to False."
            )
        planned, texts = self.inputs.planned.get(ref), ("",) * len(prior)
        if planned:  # its texts are not known yet
            section = planned.config.get("pipeline")
            generator = text_to_image.digest(pipelines.open_pipeline(section, self.inputs)) if section else ""
        else:
            path = self.inputs.path(ref)
            generator, texts = read_spec(path).generator, read_labelled(path).prompts or texts
        if generator != (untouched := text_to_image.digest(self.loaded)):
            raise ValueError(
                f"method.prior {ref} was sampled from the generator {generator}, expected the pipeline that is "
                f"fine-tuned, {untouched}, as it is. Sample a set with the same config.pipeline: path, revision, "
                "variant, param_dtype, lora and tokens decide."
            )
        if lacking := [self.class_names[c] for c in np.flatnonzero(prior.class_counts() == 0)]:
            raise ValueError(
                f"method.prior {ref} has no image of {lacking}, expected some of every class. Sample more."
            )
        return replace(prior, captions=np.array(texts))

    def _prior_texts(self, images: Source) -> tuple[str, ...]:
        """What the prior's images of these images' classes were sampled by, in their order."""
        texts = _of_classes(self.prior, images).captions if self.prior else None
        return () if texts is None else tuple(texts.tolist())

    def _caption_report(self) -> dict[str, int]:
        words_file = self.config["prompts"]["words_file"]
        return prompts.caption_report(self.real.distinct, self.class_names, words_file)

    @functools.cached_property
    def need(self) -> memory.Need:
        """What the largest stage takes on each device; traced when it is asked for."""
        return _largest(self._stages(at_most=False))[1]

    @functools.cached_property
    def need_alone(self) -> memory.Need:
        """What it takes where there is one device."""
        return _largest(self._stages(at_most=False, alone=True))[1]

    def _stages(self, at_most: bool, alone: bool = False) -> dict[str, memory.Need]:
        """What each stage takes of a device, or of the only one."""
        task, recipe, precompute = self.training.task, self.training.recipe, self.config["method"].get("precompute")
        rows = recipe.batch_size // recipe.micro_batches if alone else recipe.rows(self.machine.per_device)
        frozen, batch = dict(self.shapes), self._batch(rows)
        if precompute:
            frozen["latents"] = self._latents(len(self.real.base))
            del batch["image"]

        def loss(params: Any, frozen: Any, batch: Any) -> jax.Array:
            return task.loss(params, {}, frozen, batch, jax.vmap(jax.random.key)(batch["slot"]))[0]

        average, how = bool(recipe.ema_half_life_images), (recipe.micro_batches, at_most)
        return {"A step": memory.of_training(loss, self.trained, frozen, batch, recipe.tx, average, *how)}

    def _batch(self, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
        batch = {name: jax.ShapeDtypeStruct((rows,), np.int32) for name in ("label", "source", "index", "slot")}
        return {**batch, "image": jax.ShapeDtypeStruct((rows, *self.real.shape), np.uint8)}

    @functools.cached_property
    def trained(self) -> Any:
        """The shapes of what is trained."""
        return jax.eval_shape(lambda: self.training.task.init(jax.random.key(0))[0])


class TuneUNet(TunePipeline):
    """Fine-tunes the U-Net, adapters on it, or new words."""

    sections = {
        **_TRAINING,
        "prompts": fields(prompts.read, skip=prompts.OF_DATA),
        "method": {
            "per": Field(
                "dataset",
                Literal["dataset", "class"],
                "adapters of the whole data set, or of each class, without grids",
            ),
            "prior": Field(
                "",
                str,
                "a set that the untouched pipeline sampled (in a study, a name of sets), half of each batch: prior "
                "preservation; '' is none",
            ),
            "learn_tokens": Field(0, int, "new words to learn for each class; 0 is off"),
            "token_like": Field("", str, "the word that the new ones start as; '' takes each class's own name"),
            **fields(Finetune, skip=_GIVEN),
        },
        "grid": {
            "per_class": Field(
                0, int, "images of each class sampled at every evaluation, grids/step_N.png; 0 for none"
            ),
            **fields(text_to_image.Request, skip=("prompts", "image_px")),
        },
    }
    refers = (
        *(*TunePipeline.refers, "method.prior"),
        *("prompts.templates_file", "prompts.words_file", "prompts.captions_file"),
    )

    def make_task(self) -> Callable[..., Any]:
        """Adds the new words to the pipeline, and reads the prompts."""
        method, names = dict(self.config["method"]), self.class_names
        per_class, like = method.pop("learn_tokens"), method.pop("token_like")
        self.by_class = method.pop("per") == "class"
        self.prior = self._prior(method.pop("prior"))
        if method["prior_weight"] != 1 and not self.prior:
            raise ValueError(
                f"method.prior_weight {method['prior_weight']} without method.prior: name a set, or set 1.0."
            )
        if self.by_class and (not method["rank"] or method["text_targets"] or per_class):
            raise ValueError(
                f"method.per 'class' with rank {method['rank']}, text_targets {method['text_targets']}, learn_tokens "
                f"{per_class}: expected adapters of the network alone, a rank above 0, () and 0."
            )
        if per_class:
            self.words = new_words(names, per_class)
            starts = {word: like or name for name, text in self.words.items() for word in text.split()}
            self.loaded = stable_diffusion.add_tokens(self.loaded, starts)
        section, images = self.config["prompts"], self.real.base
        if section["contexts"] == "shuffle":
            raise ValueError(
                "prompts.contexts 'shuffle' says of images what others show: fine-tune by 'own', sample by 'shuffle'."
            )
        of_data = {"class_names": names, "words": self.words or None, "captioned": images}
        self.asked = unpack("prompts", prompts.read, section, **of_data, most=1, seed=0)
        if section["contexts"]:
            named = {name: section[name] for name in ("template", "words_file")}
            self.captions = prompts.own_captions(images, names, **named, words=self.words or None)
        augment = unpack("augment", Augment, self.config["augment"])
        given = {"pipeline": self.loaded.pipeline, "num_classes": len(names), "augment": augment}
        return functools.partial(unpack, "method", Finetune, method, **given, num_tokens=per_class * len(names))

    def check_grid(self) -> None:
        """Reads the section grid."""
        grid = dict(self.config["grid"])
        self.per_class = grid.pop("per_class")
        if self.per_class < 0:
            raise ValueError(f"config.grid.per_class {self.per_class}: expected whole numbers from 0 (no pictures).")
        pixels = self.per_class * len(self.class_names) * math.prod(self.real.shape)
        self.machine.check_memory(f"A grid of grid.per_class {self.per_class:,}", pixels)
        first = tuple(some[:1] for some in self.asked)
        image_px = self.training.task.image_px
        self.request = unpack("grid", text_to_image.Request, grid, prompts=first, image_px=image_px)
        self.request.check(self.loaded.pipeline)

    def _stages(self, at_most: bool, alone: bool = False) -> dict[str, memory.Need]:
        """As every training; texts that are encoded before; and evaluations and their grids, beside what is trained.

        Evaluations encode as many images at once as what encodes all before the first step, beside nothing.
        """
        stages, task, params = super()._stages(at_most, alone), self.training.task, self.loaded.params
        held = {
            k: v for k, v in stages["A step"].parts.items() if k in ("parameters", "frozen", "optimizer", "average")
        }
        rows = evaluation_batch_size(self.config, self.machine, self.real.shape)
        batch = self._batch(rows if alone else rows // self.machine.num_devices)
        variables = {"params": self.trained, "frozen": self.shapes}
        loss = memory.peak(task.fixed_noise_loss, variables, batch)
        stages["An evaluation"] = memory.Need({**held, "activations": loss, "batch": memory.size_of(batch)})
        if "states" in self.shapes:
            texts = [memory.Need({part: memory.size_of(params[part])}) for part in self.loaded.pipeline.tokenizers]
            stages["Encoding texts"] = max(texts, key=lambda one: one.total)
        if self.per_class and not self.by_class:
            tuned = Loaded(self.loaded.pipeline, jax.eval_shape(task.fine_tuned, params, self.trained))
            stages["A grid"] = memory.Need({**held, "sampling": text_to_image.need(tuned, self.request).total})
        return stages

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """As every training; of adapters for each class, one training after the other, those that are whole stay."""
        return self._run_by_class(folder) if self.by_class else super().run(folder)

    def write(self, folder: Path, index: int, count: int) -> None:
        """Trains the adapters of every `count`-th class, from the `index`-th."""
        if not self.by_class:
            super().write(folder, index, count)
        self._train_classes(
            RunFolder(folder, dict(self.config), self.machine.primary), range(len(self.class_names))[index::count]
        )

    def _run_by_class(self, folder: RunFolder) -> dict[str, Any]:
        """Trains the adapters of each class in a folder of its own, and says the means over classes."""
        started = time.monotonic()
        losses, num_trained = self._train_classes(folder, range(len(self.class_names)))
        self.machine.barrier("left")
        tuned = pipelines.open_fine_tuned(folder.path, self.config["pipeline"], self.inputs)
        return {
            "loss_train": float(np.mean(losses)),
            "steps": self.training.recipe.num_steps,
            **self.promise(),
            "generator": text_to_image.digest(tuned),
            **({"captions": self._caption_report()} if self.captions else {}),
            "num_trained": num_trained,
            "trained_on": folder.devices,
            "seconds": seconds_of_parts(folder.path, self.machine) + time.monotonic() - started,
        }

    def _train_classes(self, folder: RunFolder, classes: range) -> tuple[list[float], int]:
        """Trains the adapters of some classes, or what is left of it: their losses, and how many numbers learnt."""
        config, task, base, losses, num_trained = self.config, self.training.task, self.real.base, list[float](), 0
        params, start = self.loaded.params, task.start(self.loaded.params)
        for c in classes:
            here = RunFolder(folder.path / pipelines.CLASSES / f"{c:04d}", folder.config, folder.primary)
            if self.machine.primary:
                here.path.mkdir(parents=True, exist_ok=True)
            self.machine.barrier(f"class {c}")
            mine = np.flatnonzero(base.labels == c)
            images, captions = base.subset(mine), tuple(self.captions[i] for i in mine) if self.captions else ()
            seen = evaluation_stream(images, plain_form(self.real.shape), config, self.machine)
            encoded = seen if config["method"]["precompute"] else None
            texts = {"captions": captions, "prior": self._prior_texts(images)}
            frozen = task.frozen(params, self.asked, encoded, self.machine, **texts)
            sampler, pixels = self.sampler_of(images), not config["method"]["precompute"]
            given = (self.real, self.training.recipe, self.machine)
            stream_from = training_stream(sampler.pool, sampler, *given, pixels=pixels)
            title = f"class {self.class_names[c]}, {c + 1} of {len(self.class_names)}"
            how = (self.machine, config["seed"], title, start, frozen)
            state, evaluation, _ = run_fit(self.training, stream_from, {"train": seen}, here, *how)
            trained = parallel.to_host(state.ema["params"] if state.ema else state.params)
            if self.machine.primary:
                self.save(here.path, trained, evaluation.metrics)
            losses.append(evaluation.metrics["loss_train"])
            num_trained += sum(leaf.size for leaf in jax.tree.leaves(trained))
        return losses, num_trained

    def save(self, folder: Path, trained: Any, metrics: dict[str, float]) -> None:
        """Writes a whole pipeline, or what is smaller and all that changed."""
        task = self.training.task
        tuned = Loaded(self.loaded.pipeline, task.fine_tuned(self.loaded.params, trained))
        if task.whole:
            pipelines.save_fine_tuned(folder, tuned)
        else:
            words = tuple(word for text in self.words.values() for word in text.split())
            pipelines.save_fine_tuned(folder, tuned, trained.get("lora"), task.alpha, words)

    def watch(self, folder: RunFolder) -> Callable[[TrainState], None] | None:
        """Samples a few images of each class with the same prompts and seed at every evaluation."""
        task, names, request = self.training.task, self.class_names, self.request
        if not self.per_class or not self.machine.primary:
            return None
        labels = np.repeat(np.arange(len(names)), self.per_class)
        indices = np.tile(np.arange(self.per_class), len(names))
        devices = parallel.Machine.local()

        def watch(state: TrainState) -> None:
            trained = parallel.to_host(state.ema["params"] if state.ema else state.params)
            now = Loaded(self.loaded.pipeline, task.fine_tuned(self.loaded.params, trained))
            images = np.concatenate(list(text_to_image.draw(now, request, 0, labels, indices, devices)))
            sheet = contact_sheet.contact_sheet(from_arrays(images, labels, names), self.per_class)
            (folder.path / "grids").mkdir(exist_ok=True)
            content = io.BytesIO()
            sheet.save(content, "png")
            atomic_write(folder.path / "grids" / f"step_{int(state.step):06d}.png", content.getvalue())

        return watch


class TuneVAE(TunePipeline):
    """Trains the pipeline's VAE."""

    sections = {**_TRAINING, "method": fields(Autoencode, skip=_GIVEN)}

    def make_task(self) -> Callable[..., Any]:
        """Reads the augmentation."""
        augment = unpack("augment", Augment, self.config["augment"])
        given = {"pipeline": self.loaded.pipeline, "augment": augment}
        return functools.partial(unpack, "method", Autoencode, self.config["method"], **given)

    def save(self, folder: Path, trained: Any, metrics: dict[str, float]) -> None:
        """Writes the whole pipeline."""
        pipelines.save_fine_tuned(folder, self.training.task.fine_tuned(self.loaded, trained, metrics))


JOB = {"finetune": TuneUNet, "autoencode": TuneVAE}


def _of_classes(prior: Source, images: Source) -> Source:
    """The images of a prior that are of other images' classes."""
    return prior.subset(np.flatnonzero(np.isin(prior.labels, np.unique(images.labels))), "prior")


def _largest(stages: dict[str, memory.Need]) -> tuple[str, memory.Need]:
    return max(stages.items(), key=lambda stage: stage[1].total)


def new_words(class_names: Sequence[str], per_class: int) -> dict[str, str]:
    """What each class is called once its words are learnt: "Basophil" -> "<basophil>", or "<basophil-0> <basophil-1>".

    Raises: ValueError: a number below 1, or class names that come to the same.
    """
    if per_class < 1:
        raise ValueError(f"method.learn_tokens {per_class}: expected whole numbers from 0 (off), for each class.")
    plain = [re.sub(r"[^a-z0-9]+", "-", str(name).lower()).strip("-") for name in class_names]
    if len(set(plain)) < len(plain) or not all(plain):
        raise ValueError(f"Got classes {list(class_names)}, which as new words are {plain}. Give them distinct names.")
    ends = [""] if per_class == 1 else [f"-{number}" for number in range(per_class)]
    return {name: " ".join(f"<{word}{end}>" for end in ends) for name, word in zip(class_names, plain, strict=True)}
