"""Jobs on generators: `fit` trains one inside a data set, `import` takes one over, `sample` writes a set with it."""

import time
from collections.abc import Callable
from pathlib import Path

from jaxmoust import build
from jaxmoust.build import Config, RealData
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers import share
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.generate import pixels
from jaxmoust.jobs.external import sample_external
from jaxmoust.jobs.job import (
    TUNING_TASKS,
    Resolve,
    Work,
    base_size,
    finished,
    fit_eval_data,
    judged_on,
    open_real_data,
    run_fit,
    training_stream,
)
from jaxmoust.models.unet.load import read_unet
from jaxmoust.runtime import checkpoint, parallel
from jaxmoust.runtime.folder import RunFolder, environment

GENERATOR_SECTIONS = ("seed", "task", "data", "model", "method", "augment", "optim", "train", "eval")
IMPORT_SECTIONS = ("task", "path", "class_names")
SAMPLE_SECTIONS = ("seed", "task", "generator", "name", "num_images", "shard_images", "sample")


def fit_generator(config: Config, resolve: Resolve = Path) -> Work:
    """Trains a generator (verb `fit`): one inside a data set, or, by the task, parts of Stable Diffusion."""
    if config.get("task") in TUNING_TASKS:
        # There, as diffusers and transformers take seconds to import, which no other job should pay.
        from jaxmoust.jobs.tuning import fit_pipeline

        return fit_pipeline(config, resolve)
    machine = parallel.Machine.all()
    real, training = plan_fit(config, machine)
    task, class_names = training.task, real.base.class_names
    eval_data = fit_eval_data(real, config, machine)
    pool = Pool.from_sources([real.base])
    stream_from = training_stream(pool, share.Random(pool, config["seed"]), real, training.recipe, machine)

    def work(folder: RunFolder) -> dict:
        title = f"fit {config['method']['name']}"
        state, evaluation, seconds = run_fit(training, stream_from, eval_data, folder, machine, config["seed"], title)
        params = parallel.to_host(state.ema["params"] if state.ema else state.params)
        generator = pixels.Generator(task.model, task.method, params, len(class_names), real.shape)
        return {
            **evaluation.metrics,
            "steps": training.recipe.num_steps,
            "n_base": base_size(real),
            "data_digest": real.base.digest,
            "image_shape": real.shape,
            "class_names": class_names,
            "generator": generator.digest,
            "method": config["method"]["name"],
            "seconds": seconds,
        }

    return work


def import_generator(config: Config, resolve: Resolve = Path) -> Work:
    """Takes a public network over as a generator that `sample` draws from (verb `import`)."""
    build.check_sections(config, IMPORT_SECTIONS, "import")
    if not config["path"]:
        raise ValueError("config.path is empty: give the folder or file of the network, --config.path=PATH.")
    machine = parallel.Machine.all()
    public = read_unet(resolve(config["path"]).expanduser(), len(config["class_names"]))
    class_names = tuple(config["class_names"]) or tuple(map(str, range(public.num_classes)))
    task = build.make_diffuse(public.sections, public.image_shape, public.num_classes)
    generator = pixels.Generator(task.model, task.method, public.params, public.num_classes, public.image_shape)

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        with checkpoint.Checkpoints(folder.checkpoints, primary=machine.primary) as checkpoints:
            checkpoints.save(0, {"params": public.params})
        return {
            "steps": 0,
            "n_base": 0,
            "data_digest": "",
            "image_shape": public.image_shape,
            "class_names": class_names,
            "generator": generator.digest,
            "method": public.sections["method"]["name"],
            "sections": public.sections,
            "seconds": time.monotonic() - started,
        }

    return work


def load_generator(workdir: Path) -> tuple[pixels.Generator, float, dict]:
    """Opens what `fit` or `import` left in a folder.

    Returns: (the generator, the label dropout it was trained with, the result of the job that left it).
    Raises: ValueError: the folder holds no finished generator.
    """
    config, result = finished(workdir, ("diffuse", "import"), "fit")
    config = build.plain(result.get("sections", config))  # an imported network says what it is in its result
    shape, num_classes = tuple(result["image_shape"]), len(result["class_names"])
    task = build.make_diffuse(config, shape, num_classes)
    averaged = config.get("optim", {}).get("ema_half_life_images")
    params, _ = checkpoint.restore_tree(workdir / "checkpoints", "ema" if averaged else "params")
    params = params["params"] if averaged else params
    return pixels.Generator(task.model, task.method, params, num_classes, shape), task.label_dropout, result


def sample(config: Config, resolve: Resolve = Path) -> Work:
    """Writes a synthetic set from a generator (verb `sample`): one of ours, or, by the task, Stable Diffusion."""
    if config.get("task") == "text_to_image":
        return sample_external(config, resolve)
    build.check_sections(config, SAMPLE_SECTIONS, "sample")
    if not config["generator"]:
        raise ValueError("config.generator is empty: give the folder of a fitted generator, --config.generator=DIR.")
    machine, everyone = parallel.Machine.local(), parallel.Machine.all()
    generator, label_dropout, fitted = load_generator(resolve(config["generator"]))
    sampling = build.make_sampling(config["sample"], generator.method, label_dropout)
    class_names = tuple(fitted["class_names"])
    spec = make_spec(config, sampling, fitted["method"], class_names, generator.image_shape, generator.digest)

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        versions = environment()["packages"]
        shared = (everyone.process_index, everyone.process_count)
        pixels.write_set(generator, sampling, spec, folder.path, machine, *shared, versions)
        everyone.barrier("sampled")
        return {
            "n": spec.num_images,
            "generator": generator.digest,
            "method": fitted["method"],
            "n_base": fitted["n_base"],
            "data_digest": fitted["data_digest"],
            "class_names": spec.class_names,
            "seconds": time.monotonic() - started,
        }

    return work


def plan_fit(
    config: Config, machine: parallel.Machine, open_real: Callable[[Config], RealData] | None = None
) -> tuple[RealData, build.Training]:
    """Opens the data of a generator's configuration and builds its training; refuses another verb's."""
    build.check_sections(config, GENERATOR_SECTIONS, "diffuse")
    real = (open_real or open_real_data)(config["data"])
    metrics = tuple(f"loss_{name}" for name in judged_on(real))
    num_classes = len(real.base.class_names)
    return real, build.make_training(build.make_diffuse, config, real.shape, num_classes, metrics, machine)


def make_spec(
    config: Config, sampling: pixels.Sampling, default_name: str, class_names: tuple, shape: tuple, generator: str = ""
) -> synthetic.SyntheticSpec:
    """Describes the synthetic set that a configuration of the verb `sample` asks for."""
    parallel.check_seed(config["seed"])
    return synthetic.SyntheticSpec(
        name=config["name"] or default_name,
        class_names=class_names,
        shape=shape,
        num_images=config["num_images"],
        shard_images=config["shard_images"],
        seed=config["seed"],
        generator=generator,
        guidance=sampling.guidance,
        steps=sampling.num_steps,
        created_by=config["sample"],
    )
