"""How many images a second Stable Diffusion draws and trains on, beside torch's diffusers on the same network.

Sampling is what `jaxmoust sample` runs, 20 steps from text states to uint8 images; torch runs the steps of its
StableDiffusionPipeline with DDIMScheduler, the text encoded before. Training is an update of our loop on latents and
text states that were computed before: all of the U-Net, or adapters of rank 4 on its attention; torch does the same
with its U-Net and AdamW (adapters need `peft`; without it no peer for them). torch runs eagerly and with torch.compile.
Weights are random, made here and of the sizes that the published pipelines have. The ceiling is one large matrix
product.

Run: python experiments/speed/stable_diffusion.py   (a small pipeline, for a CPU)
     python experiments/speed/stable_diffusion.py --size=sd15 --dtype=bfloat16   (or sd21: 512 px, for an accelerator)
     python experiments/speed/stable_diffusion.py --sizes   (what SD 1.5 and 2.1-base need, by shapes alone: minutes)

Result of the small pipeline, batches of 8, on 2 CPU cores (x86_64, jax 0.10.2, torch 2.13.0), float32, images/s and
the share of one large product:
                                jaxmoust          torch, eager      torch, compiled
    20 steps, guidance 7.5     35.85 (33 %)     21.47 1.67x     27.75 1.29x
    20 steps, guidance 1.0     63.36 (31 %)     26.56 2.39x     43.39 1.46x
    an update, full           205.13 (14 %)    161.41 1.27x    178.67 1.15x
    an update, lora           294.61 (13 %)    185.61 1.59x    224.42 1.31x

What one accelerator holds at 512 px, computing in bfloat16 with float32 parameters, by `--sizes` (shapes alone;
adapters and latents as above, AdamW, an average of weights with "full" only). GiB for 8 images, for each more, and the
most images that 16 and 80 GiB hold if nothing is left free; leave a third (models/stable_diffusion/memory.py says why).

                            Stable Diffusion 1.5              Stable Diffusion 2.1-base
                        8 need   each   16 GiB  80 GiB     8 need   each   16 GiB  80 GiB
    full                  54.9   5.06     none      12       46.3   3.98     none      16
    full, remat           24.3   1.06     none      60       21.5   0.68     none      93
    adapters              42.7   4.75        2      15       34.1   3.67        3      20
    adapters, remat       12.4   1.10       11      69        9.5   0.72       17     105
    sampling              10.5   0.88       14      87       10.5   0.88       14      87
    sampling, guided      11.7   1.03       12      74       10.5   0.88       14      87

A latent's way through the U-Net is 0.789 TFLOP in both, through the decoder 2.504. Parameters: U-Net 859,520,964 and
865,910,724, VAE 83,653,863, text encoder 123,060,480 and 340,387,840.
"""

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peers

from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.core.optim import Recipe
from jaxmoust.generate import text_to_image
from jaxmoust.models.stable_diffusion import Loaded, memory
from jaxmoust.models.stable_diffusion.pipeline import StableDiffusion, build
from jaxmoust.models.stable_diffusion.tokenizer import Tokenizer, open_tokenizer
from jaxmoust.runtime import parallel
from jaxmoust.train.finetune import Finetune
from jaxmoust.train.loop import init_state, make_step

NUM_STEPS, RANK, NUM_CLASSES = 20, 4, 10
UNET_BLOCKS = dict(
    down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
)
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "tiny": {
        "unet": dict(
            sample_size=8,
            block_out_channels=[32, 64],
            layers_per_block=1,
            attention_head_dim=4,
            cross_attention_dim=32,
            down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
            up_block_types=["UpBlock2D", "CrossAttnUpBlock2D"],
        ),
        "vae": dict(block_out_channels=[32, 64], layers_per_block=1, sample_size=16),
        "text_encoder": dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2),
    },
    "sd15": {
        "unet": dict(
            sample_size=64,
            block_out_channels=[320, 640, 1280, 1280],
            layers_per_block=2,
            attention_head_dim=8,
            cross_attention_dim=768,
            **UNET_BLOCKS,
        ),
        "vae": dict(block_out_channels=[128, 256, 512, 512], layers_per_block=2, sample_size=512),
        "text_encoder": dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12),
    },
    "sd21": {
        "unet": dict(
            sample_size=64,
            block_out_channels=[320, 640, 1280, 1280],
            layers_per_block=2,
            attention_head_dim=[5, 10, 20, 20],
            cross_attention_dim=1024,
            use_linear_projection=True,
            **UNET_BLOCKS,
        ),
        "vae": dict(block_out_channels=[128, 256, 512, 512], layers_per_block=2, sample_size=512),
        "text_encoder": dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16),
    },
}
SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
TRAINED = {"full": dict(rank=0, alpha=0.0), "lora": dict(rank=RANK, alpha=float(RANK))}
ACCELERATORS_GIB = (16, 80)


def tokenizer(folder: Path) -> Tokenizer:
    """A tokenizer of single letters: prompts are not what is measured."""
    tokens = [*"abcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return open_tokenizer(folder)


def configs(size: str) -> dict[str, dict[str, Any]]:
    """The JSON files of a pipeline."""
    made = {part: dict(fields) for part, fields in SIZES[size].items()}
    depth = len(made["vae"]["block_out_channels"])
    made["vae"] |= dict(
        down_block_types=["DownEncoderBlock2D"] * depth, up_block_types=["UpDecoderBlock2D"] * depth, latent_channels=4
    )
    made["text_encoder"] |= dict(vocab_size=49_408, max_position_embeddings=77)
    return made | {"scheduler": SCHEDULE | {"steps_offset": 1}, "model_index": {}}


@functools.cache
def pipeline_of(size: str, dtype: str, remat: bool = False) -> StableDiffusion:
    """A pipeline without parameters."""
    with tempfile.TemporaryDirectory() as folder:
        return build(configs(size), tokenizer(Path(folder)), jnp.dtype(dtype), remat)


def random_params(pipeline: StableDiffusion, dtype: str) -> dict[str, Any]:
    """Random parameters of a size that keeps activations about 1."""

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 1
        values = np.random.default_rng(0).standard_normal(leaf.shape, np.float32) / np.float32(np.sqrt(fan_in))
        return (1 + 0.1 * values if path[-1].key == "scale" else values).astype(jnp.dtype(dtype))

    return jax.tree_util.tree_map_with_path(draw, pipeline.parameter_shapes())


class OursSampling:
    """One batch of images drawn by `generate.text_to_image` on every device."""

    def __init__(self, size: str, batch_size: int, dtype: str, guidance: float, num_steps: int) -> None:
        """Makes the pipeline."""
        self.machine = parallel.Machine.local()
        pipeline = pipeline_of(size, dtype)
        params = random_params(pipeline, dtype)
        self.num_params = sum(leaf.size for leaf in jax.tree.leaves(params["unet"]))
        # On the device once, as a set of many batches has them.
        self.loaded = Loaded(pipeline, self.machine.replicate(params))
        self.request = text_to_image.Request(
            prompts=(("a b c",),) * NUM_CLASSES,
            image_px=pipeline.image_px,
            num_steps=num_steps,
            guidance=guidance,
            per_device_batch=self.machine.per_device(batch_size),
        )
        self.labels, self.indices = np.arange(batch_size) % NUM_CLASSES, np.arange(batch_size)

    def __call__(self) -> None:
        """Draws the batch."""
        (images,) = text_to_image.draw(self.loaded, self.request, 0, self.labels, self.indices, self.machine)
        assert images.dtype == np.uint8 and len(images) == len(self.labels)


class OursTraining:
    """Updates of our loop's own step on every device, on latents that were computed before."""

    def __init__(self, size: str, batch_size: int, dtype: str, trained: str) -> None:
        """Makes the state."""
        self.machine = parallel.Machine.all()
        task, frozen, batch = training(size, batch_size, dtype, trained)
        recipe = Recipe(batch_size=batch_size, num_steps=1_000_000, learning_rate=1e-5, weight_decay=0.01)
        params = random_params(task.pipeline, "float32")
        rng = np.random.default_rng(0)
        frozen = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32).astype(leaf.dtype), frozen)
        of_class = 1 + np.arange(NUM_CLASSES, dtype=np.int32)[:, None]
        frozen |= {"num_prompts": np.ones(NUM_CLASSES, np.int32), "of_class": of_class}
        frozen |= {"unet": params["unet"]} if "unet" in frozen else {}
        state = task.start(params)(init_state(task, recipe, 0))
        self.num_params = sum(leaf.size for leaf in jax.tree.leaves(params["unet"]))
        self.step, self.state = make_step(task, recipe, self.machine), self.machine.replicate(state)
        self.frozen, self.seed = self.machine.replicate(frozen), self.machine.replicate(np.uint32(0))
        rows = np.arange(batch_size)
        self.batch = {"label": rows % NUM_CLASSES, "index": rows, "slot": rows, "source": 0 * rows}
        self.batch = {name: np.asarray(self.batch[name], leaf.dtype) for name, leaf in batch.items()}

    def __call__(self) -> None:
        """One update, until its metrics are here."""
        self.state, metrics = self.step(self.state, self.frozen, self.seed, self.machine.split(self.batch))
        assert np.isfinite(float(metrics["loss"]))


def training(size: str, rows: int, dtype: str, trained: str, remat: bool = False) -> tuple[Finetune, dict, dict]:
    """The task of training on latents that were computed before, the shapes of what it uses, and of a batch."""
    pipeline = pipeline_of(size, dtype, remat)
    px, width = pipeline.image_px, pipeline.unet.cross_attention_dim
    task = Finetune(pipeline, NUM_CLASSES, (px, px, 3), px, precompute=True, caption_dropout=0.1, **TRAINED[trained])
    shape = jax.ShapeDtypeStruct
    frozen: dict[str, Any] = {
        "latents": dict.fromkeys(("mean", "std"), shape((rows, 1, *pipeline.latent_shape(px)), jnp.float32)),
        "states": shape((1 + NUM_CLASSES, 77, width), jnp.float32),  # of no text, then of each class's
        "of_class": shape((NUM_CLASSES, 1), jnp.int32),
        "num_prompts": shape((NUM_CLASSES,), jnp.int32),
    }
    if trained == "lora":
        frozen["unet"] = pipeline.parameter_shapes()["unet"]
    batch = {name: shape((rows,), jnp.int32) for name in ("label", "index", "slot", "source")}
    return task, frozen, batch


def torch_unet(size: str) -> Any:
    """The peer's network of the same sizes, on the fastest device that torch has."""
    import torch
    from diffusers import UNet2DConditionModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return UNet2DConditionModel(**configs(size)["unet"]).to(device).to(memory_format=torch.channels_last)


class TorchsSampling:
    """The same steps by torch's networks and its DDIM scheduler, as its pipeline goes through them."""

    def __init__(self, size: str, batch_size: int, dtype: str, guidance: float, num_steps: int, compiled: bool) -> None:
        """Makes the networks."""
        import torch
        from diffusers import AutoencoderKL, DDIMScheduler

        self.dtype, self.guidance, self.num_steps = getattr(torch, dtype), guidance, num_steps
        made = configs(size)
        unet = torch_unet(size).to(self.dtype).eval()
        self.device, self.num_params = unet.device, sum(p.numel() for p in unet.parameters())
        vae = AutoencoderKL(**made["vae"]).to(self.device, self.dtype).eval()
        self.scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        self.scaling = vae.config.scaling_factor
        copies = 2 if guidance != 1 else 1
        width = made["unet"]["cross_attention_dim"]
        self.states = torch.randn(copies * batch_size, 77, width, device=self.device, dtype=self.dtype)
        self.shape = (batch_size, 4, made["unet"]["sample_size"], made["unet"]["sample_size"])
        self.unet: Any = torch.compile(unet) if compiled else unet
        self.decode: Any = torch.compile(vae.decode) if compiled else vae.decode

    def __call__(self) -> None:
        """Draws the batch."""
        import torch

        with torch.no_grad():
            self.scheduler.set_timesteps(self.num_steps, device=self.device)
            x = torch.randn(self.shape, device=self.device, dtype=self.dtype)
            for t in self.scheduler.timesteps:
                both = torch.cat([x, x]) if self.guidance != 1 else x
                answer = self.unet(both, t, encoder_hidden_states=self.states).sample
                if self.guidance != 1:
                    uncond, cond = answer.chunk(2)
                    answer = uncond + self.guidance * (cond - uncond)
                x = self.scheduler.step(answer, t, x).prev_sample
            image = self.decode(x / self.scaling).sample
            image = (image * 127.5 + 127.5).clip(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        assert len(image) == self.shape[0]


class TorchsTraining:
    """The same updates in torch."""

    def __init__(self, size: str, batch_size: int, dtype: str, trained: str, compiled: bool) -> None:
        """Makes the network, its adapters and its optimizer."""
        import torch

        unet = torch_unet(size).train()
        self.device, self.dtype = unet.device, getattr(torch, dtype)
        self.num_params = sum(p.numel() for p in unet.parameters())
        if trained == "lora":
            from peft import LoraConfig

            unet.requires_grad_(False)
            targets = ["to_q", "to_k", "to_v", "to_out.0"]
            unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
        learnt = [p for p in unet.parameters() if p.requires_grad]
        self.optimizer, self.learnt = torch.optim.AdamW(learnt, 1e-5, weight_decay=0.01), learnt
        fields = configs(size)["unet"]
        self.latents = torch.randn(batch_size, 4, *[fields["sample_size"]] * 2, device=self.device)
        self.states = torch.randn(batch_size, 77, fields["cross_attention_dim"], device=self.device)
        betas = torch.linspace(SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5, 1000) ** 2
        self.kept = torch.cumprod(1 - betas, 0).to(self.device)
        self.unet: Any = torch.compile(unet) if compiled else unet

    def __call__(self) -> None:
        """One update, until its loss is here."""
        import torch
        from torch.nn.functional import mse_loss

        self.optimizer.zero_grad(set_to_none=True)
        eps = torch.randn_like(self.latents)
        t = torch.randint(0, 1000, (len(eps),), device=self.device)
        kept = self.kept[t][:, None, None, None]
        x = kept.sqrt() * self.latents + (1 - kept).sqrt() * eps
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            loss = mse_loss(self.unet(x, t, encoder_hidden_states=self.states).sample.float(), eps)
        loss.backward()
        self.optimizer.step()
        assert np.isfinite(loss.item())


def unet_flops(size: str, rows: int = 1) -> float:
    """Operations of one latent's way through the U-Net, as XLA counts them before it optimises."""
    pipeline = pipeline_of(size, "float32")
    h, w, channels = pipeline.latent_shape(pipeline.image_px)
    states = jax.ShapeDtypeStruct((rows, 77, pipeline.unet.cross_attention_dim), jnp.float32)
    x, sigma = jax.ShapeDtypeStruct((rows, h, w, channels), jnp.float32), jax.ShapeDtypeStruct((rows,), jnp.float32)
    run = jax.jit(lambda params, states, x, sigma: pipeline.denoiser(params, states)(x, sigma))
    return run.lower({"unet": pipeline.parameter_shapes()["unet"]}, states, x, sigma).cost_analysis()["flops"] / rows


def decode_flops(size: str) -> float:
    """Operations of one latent's way through the decoder."""
    pipeline = pipeline_of(size, "float32")
    x = jax.ShapeDtypeStruct((1, *pipeline.latent_shape(pipeline.image_px)), jnp.float32)
    params = {"vae": pipeline.parameter_shapes()["vae"]}
    return jax.jit(pipeline.decode_latent).lower(params, x).cost_analysis()["flops"]


def training_need(size: str, trained: str, remat: bool, rows: int) -> memory.Need:
    """What one device needs for an update on so many rows at 512 px in bfloat16, by shapes alone."""
    task, frozen, batch = training(size, rows, "bfloat16", trained, remat)
    recipe = Recipe(batch_size=rows, num_steps=1_000_000)
    params, _ = jax.eval_shape(task.init, jax.random.key(0))

    def loss(params: Any, frozen: Any, batch: Any) -> jax.Array:
        keys = jax.vmap(jax.random.key)(batch["slot"])
        return task.loss(params, {}, frozen, batch, keys)[0]

    # An average of the weights goes with all of them only.
    return memory.of_training(loss, params, frozen, batch, recipe.tx, average=trained == "full")


def sampling_need(size: str, guidance: float, rows: int) -> memory.Need:
    """What one device needs to draw so many images of 512 px in bfloat16 at once, parameters in float32."""
    pipeline = pipeline_of(size, "bfloat16")
    shapes = pipeline.parameter_shapes()
    shape = pipeline.latent_shape(pipeline.image_px)

    def draw(params: Any, batch: Any) -> jax.Array:
        states = jnp.concatenate([batch["states"]] * (2 if guidance != 1 else 1))
        denoiser = pipeline.denoiser(params, states)
        denoiser = denoise.guide_jointly(denoiser, guidance) if guidance != 1 else denoiser
        x = noise.normal_like(jax.vmap(jax.random.key)(batch["index"]), shape)
        x = jax.lax.scan(lambda x, _: (denoiser(x, jnp.ones(rows)), None), x, length=NUM_STEPS)[0]
        return jnp.clip(jnp.round(pipeline.decode_latent(params, x) * 127.5 + 127.5), 0, 255).astype(jnp.uint8)

    batch = {
        "index": jax.ShapeDtypeStruct((rows,), jnp.uint32),
        "states": jax.ShapeDtypeStruct((rows, 77, pipeline.unet.cross_attention_dim), jnp.float32),
    }
    return memory.of_sampling(draw, {part: shapes[part] for part in ("unet", "vae")}, batch)


def print_sizes(sizes: tuple[str, ...]) -> None:
    """Prints parameters, operations, and what steps need, with the largest batch that one accelerator holds."""
    for size in sizes:
        pipeline = pipeline_of(size, "bfloat16")
        shapes = pipeline.parameter_shapes()
        counts = {part: sum(leaf.size for leaf in jax.tree.leaves(tree)) for part, tree in shapes.items()}
        print(f"{size}: parameters {', '.join(f'{part} {count:,}' for part, count in counts.items())}")
        print(f"  U-Net {unet_flops(size) / 1e12:.3f} TFLOP a latent, decoder {decode_flops(size) / 1e12:.3f}")
        for trained in TRAINED:
            for remat in (False, True):
                need = functools.partial(training_need, size, trained, remat)
                _print_need(f"{trained}{', remat' if remat else ''}", need)
        for guidance in (1.0, 7.5):
            _print_need(f"sampling, guidance {guidance}", functools.partial(sampling_need, size, guidance))


def _print_need(title: str, need: Callable[[int], memory.Need]) -> None:
    """A line: what 8 images need, what each more adds, and how many fit; in the batch size a need is a line."""
    one, some, more = need(1).total, need(8), need(16).total
    each = (more - some.total) / 8
    fits = []
    for gib in ACCELERATORS_GIB:
        rows = int(8 + (gib * 2**30 - some.total) // each)
        fits.append(f"{gib} GiB: {rows if rows > 0 and one <= gib * 2**30 else 'does not fit'}")
    print(f"  {title}: {'; '.join(fits)}; each image {each / 2**30:.2f} GiB, 8 need {some}", flush=True)


def main() -> None:
    """Measures and prints one table a way to draw and to train."""
    parser = peers.options(__doc__)
    parser.add_argument("--size", choices=tuple(SIZES), default="tiny", help="of the pipeline")
    parser.add_argument("--sizes", action="store_true", help="print what the published sizes need, and measure nothing")
    parser.add_argument("--only", choices=("sample", "train", ""), default="", help="one of the two")
    args = parser.parse_args()
    if args.sizes:
        print_sizes(("tiny",) if args.quick else ("sd15", "sd21"))
        return
    parallel.use_all_cores()
    ceiling = peers.matmul_ceiling(args.dtype, args.quick)
    print(f"{parallel.Machine.all().description}, {args.dtype}: one product {ceiling / 1e12:.3g} TFLOP/s")
    batch_size = args.batch_size or (2 if args.quick else 8)
    num_steps, turns = (2, 1) if args.quick else (NUM_STEPS, args.turns)
    network, decoder = unet_flops(args.size), decode_flops(args.size)
    with_torch, how = peers.torch_is_here(args), (args.size, batch_size, args.dtype)

    def measure(title: str, ours: Any, theirs: Any, flops: float, *more: Any) -> None:
        makers = {"jaxmoust": functools.partial(ours, *how, *more)}
        if with_torch and theirs:
            makers["torch, eager"] = functools.partial(theirs, *how, *more, compiled=False)
            makers["torch, compiled"] = functools.partial(theirs, *how, *more, compiled=True)
        peers.show(title, peers.take_turns(makers, batch_size, turns), flops, ceiling)

    for guidance in (7.5, 1.0) if args.only != "train" else ():
        flops = num_steps * network * (2 if guidance != 1 else 1) + decoder
        title = f"{args.size}: {num_steps} steps, guidance {guidance}, batches of {batch_size}"
        measure(title, OursSampling, TorchsSampling, flops, guidance, num_steps)
    for trained in TRAINED if args.only != "sample" else ():
        theirs = TorchsTraining if trained == "full" or peers.is_here("peft") else None
        title = f"{args.size}: an update, {trained}, batches of {batch_size}"
        # Adapters need the gradient of what they sit on, and not that of its weights.
        measure(title, OursTraining, theirs, (3 if trained == "full" else 2) * network, trained)


if __name__ == "__main__":
    main()
