"""Builds `jaxmoust/assets/tiny_sd`, the Stable Diffusion pipeline inside the package, from nothing but fonts.

A world of typeset digits (typeset.py), a pipeline of random weights, its text encoder trained on captions and images
(contrast.py), its VAE and then its U-Net by `jaxmoust fit`; then it is judged and written in float16. Every stage is
kept in the working folder: the same command continues one that was cut off.

Run: python experiments/assets/tiny_sd.py --workdir=runs/assets       (pip install "jaxmoust[assets]")
     python experiments/assets/tiny_sd.py --workdir=runs/try --out=runs/try/out --quick
"""

import argparse
import collections
import hashlib
import itertools
import json
import shutil
import time
import zlib
from pathlib import Path
from typing import Any

import contrast
import jax
import jax.numpy as jnp
import judge
import numpy as np
import typeset

from jaxmoust.config import merge, read_config
from jaxmoust.data.source import Source
from jaxmoust.data.sources.registry import open_source
from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.jobs.parts.job import do
from jaxmoust.jobs.parts.registry import job_of, schema_of
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion.pipeline import Loaded
from jaxmoust.models.stable_diffusion.pipeline import build as build_pipeline
from jaxmoust.models.stable_diffusion.tokenizer import Tokenizer, open_tokenizer
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import environment

ROOT = Path(__file__).parents[2]
SEED = 0
PER_KIND, TEST_PER_KIND = 250, 25
MAX_BYTES = 8_000_000
TEXT_STEPS = 500

TEXT_PX = 64  # width of a text state
MAX_TOKENS = 24

UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": TEXT_PX,
    "attention_head_dim": 2,
    # Of 32 groups, the usual number, one would be a channel alone, and its norm would take out what a caption adds.
    "norm_num_groups": 8,
}
VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [16, 32, 32],
    "layers_per_block": 1,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": typeset.SIDE_PX,
    "scaling_factor": 1.0,
}
TEXT: dict[str, Any] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": TEXT_PX,
    "intermediate_size": 2 * TEXT_PX,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": MAX_TOKENS,
    "hidden_act": "quick_gelu",
    "projection_dim": TEXT_PX,
}
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
    "prediction_type": "v_prediction",
}
INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def merges(texts: list[str]) -> list[tuple[str, str]]:
    """Learns byte-pair merges until every word of the texts is one token: Sennrich et al. 2016 (1508.07909), Alg. 1."""
    words = {(*word[:-1], f"{word[-1]}</w>"): n for word, n in collections.Counter(" ".join(texts).split()).items()}
    found = []
    while True:
        pairs: collections.Counter = collections.Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        if not pairs:
            return found
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        found.append(best)
        words = {_merged(word, best): count for word, count in words.items()}


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    made: list[str] = []
    for part in word:
        if made and (made[-1], part) == pair:
            made[-1] += part
        else:
            made.append(part)
    return tuple(made)


def write_tokenizer(folder: Path) -> Tokenizer:
    """Writes CLIP's kind of tokenizer: all bytes, so that it can read anything, and the captions' words."""
    folder.mkdir(parents=True, exist_ok=True)
    captions = [caption.replace(",", "") for kind in typeset.KINDS for caption in kind.captions]
    learnt = merges(captions)
    # As CLIP writes bytes, in its order: those that can be printed as themselves, then the others.
    single = [chr(i) for i in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    tokens = [*single, *(c + "</w>" for c in single), *map("".join, learnt), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, learnt), ""]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": MAX_TOKENS}))
    return open_tokenizer(folder)


def fresh_pipeline(folder: Path, seed: int) -> Loaded:
    """A pipeline of random weights; its tokenizer's files go to the folder."""
    tokenizer = write_tokenizer(folder)
    last = len(tokenizer) - 1
    text = {**TEXT, "vocab_size": last + 1, "bos_token_id": last - 1, "eos_token_id": last, "pad_token_id": last}
    parts = {"unet": UNET, "vae": VAE, "text_encoder": text, "scheduler": SCHEDULER, "model_index": INDEX}
    pipeline = build_pipeline(parts, tokenizer)
    keys = jax.random.split(jax.random.key(seed), 3)
    latent, image = jnp.zeros((1, *pipeline.latent_shape(pipeline.image_px))), jnp.zeros((1, 16, 16, 3))
    states = jnp.zeros((1, 1, pipeline.unet.cross_attention_dim))
    params = {
        "unet": jax.jit(pipeline.unet.init)(keys[0], latent, jnp.zeros(1), states)["params"],
        "vae": jax.jit(pipeline.vae.init)(keys[1], image)["params"],
        "text_encoder": _text_weights(keys[2], pipeline.parameter_shapes()["text_encoder"]),
    }
    return Loaded(pipeline, jax.device_get(params))


def _text_weights(key: jax.Array, shapes: Any) -> Any:
    """Random weights of a text encoder, matrices in proportion to 1 / sqrt(inputs).

    transformers' own, a hundredth in every matrix, are meant for a width of 512 and more: at a width of 64 they would
    pass next to nothing of a word on to the places after it.
    """
    lecun, words = jax.nn.initializers.lecun_normal(), jax.nn.initializers.normal(0.1)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = jax.tree_util.keystr(path)
        own = jax.random.fold_in(key, zlib.crc32(name.encode()))
        if path[-1].key in ("kernel", "embedding"):
            return (lecun if path[-1].key == "kernel" else words)(own, leaf.shape, leaf.dtype)
        return jnp.ones(leaf.shape) if path[-1].key == "scale" else jnp.zeros(leaf.shape)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def text_stage(workdir: Path, fresh: Path, train: Source, num_steps: int, seed: int) -> tuple[Path, dict]:
    """Trains the text encoder of a pipeline on a world's captions; returns the folder it lies in, and its loss."""
    folder, done = workdir / "text", workdir / "text.json"
    if not done.is_file():
        started = time.monotonic()
        captions = {kind.name: kind.captions for kind in typeset.KINDS}
        of_class = [captions[name] for name in train.class_names]
        loaded = stable_diffusion.load(str(fresh))
        images = judge.grey_pixels(train)
        loaded, loss = contrast.learn_captions(loaded, images, train.labels, of_class, num_steps, seed)
        shutil.rmtree(folder, ignore_errors=True)
        stable_diffusion.save(loaded, folder)
        done.write_text(json.dumps({"loss": loss, "seconds": time.monotonic() - started}))
    return folder, json.loads(done.read_text())


def stage(name: str, workdir: Path, quick: bool, seed: int, **sections: dict[str, Any]) -> tuple[Path, dict]:
    """Runs `jaxmoust fit` with one of the two configurations on the world; returns its folder and its result."""
    file = ROOT / "configs" / "generator" / f"{name}.py"
    config = read_config(f"{file}:quick" if quick else str(file))
    data = {"path": str(workdir / "world"), **({"n_base": 800} if quick else {})}
    config = merge(config, {"seed": seed, "data": data, **sections}, schema_of(config["task"]))
    return workdir / name, do(job_of(config["task"]), as_config(config), workdir / name).result


def digest_of(folder: Path) -> str:
    """SHA-256 over the names and bytes of all files of a pipeline but build.json, which holds it."""
    content = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "build.json"):
        content.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        content.update(path.read_bytes())
    return content.hexdigest()


def main() -> None:
    """Builds what is not there yet, judges it, and puts it in its place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="where the stages are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "jaxmoust" / "assets" / "tiny_sd", help="replaced")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--quick", action="store_true", help="few images and steps, as a smoke test")
    args = parser.parse_args()
    parallel.use_all_cores()
    world, fresh = args.workdir / "world", args.workdir / "fresh"
    seconds = {}
    if not (world / "captions.json").is_file():
        started = time.monotonic()
        typeset.write_world(world, args.seed, *((12, 4) if args.quick else (PER_KIND, TEST_PER_KIND)))
        seconds["world"] = time.monotonic() - started
    if not (fresh / "model_index.json").is_file():
        shutil.rmtree(fresh, ignore_errors=True)
        stable_diffusion.save(fresh_pipeline(args.workdir / "tokenizer", args.seed), fresh)
    train = open_source("folder", "train", str(world))
    text, learnt = text_stage(args.workdir, fresh, train, 4 if args.quick else TEXT_STEPS, args.seed)
    seconds["text"] = learnt["seconds"]
    vae, result = stage("tiny_sd_vae", args.workdir, args.quick, args.seed, pipeline={"path": str(text)})
    seconds["vae"] = result["seconds"]
    prompts = {"template": "", "captions_file": str(world / "captions.json")}
    where = {"pipeline": {"path": str(vae)}, "prompts": prompts}
    unet, result = stage("tiny_sd_pretrain", args.workdir, args.quick, args.seed, **where)
    seconds["unet"] = result["seconds"]
    loaded = stable_diffusion.load(str(unet / "pipeline"))
    test = open_source("folder", "test", str(world))
    about = environment(parallel.Machine.all().description)
    record = {
        "script": "experiments/assets/tiny_sd.py",
        "seed": args.seed,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "device": about["device"],
        "cpus": about["cpus"],
        "python": about["python"],
        "packages": {**about["packages"], "matplotlib": typeset.matplotlib.__version__},
        "num_images": {"train": len(train), "test": len(test)},
        "data_digest": {"train": train.digest, "test": test.digest},
        "parameters": {part: sum(x.size for x in jax.tree.leaves(tree)) for part, tree in loaded.params.items()},
        "losses": {"text": learnt["loss"], "vae": read_losses(vae), "unet": read_losses(unet)},
    }
    made = args.workdir / "made"
    shutil.rmtree(made, ignore_errors=True)
    stable_diffusion.save(loaded, made, np.float16)
    record["judged"] = judge.judge(made, train, test, 200 if args.quick else 2000)
    record["digest"] = digest_of(made)
    (made / "build.json").write_text(json.dumps(record, indent=2) + "\n")
    if (size := sum(p.stat().st_size for p in made.rglob("*") if p.is_file())) > MAX_BYTES:
        raise ValueError(f"{made} holds {size} bytes, expected {MAX_BYTES}, as it is part of the package.")
    shutil.rmtree(args.out, ignore_errors=True)
    shutil.copytree(made, args.out)
    print(json.dumps(record, indent=2))


def read_losses(run: Path) -> dict[str, float]:
    """What a run's result says of its losses."""
    result = json.loads((run / "result.json").read_text())
    return {name: result[name] for name in ("loss_train", "loss_heldout", "latent_std") if name in result}


if __name__ == "__main__":
    main()
