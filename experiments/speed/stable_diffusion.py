"""How many images a second Stable Diffusion samples and trains on, beside torch's diffusers on the same network.

Sampling is what `jaxmoust sample` runs, 20 steps from text states to uint8 images; torch runs the steps of its pipeline
with DDIMScheduler, of 3 and 3.5 with FlowMatchEulerDiscreteScheduler, the text encoded before. Training is an update of
our loop on latents and text states that were computed before: the whole network, or adapters of rank 4 on its
attention; torch does the same with its network and AdamW (adapters need `peft`; without it no peer for them). torch
runs eagerly and with torch.compile. Weights are random, made here. The ceiling is one large matrix product.

Run: python experiments/speed/stable_diffusion.py   (all kinds: small ones on a CPU, the published sizes elsewhere)
     python experiments/speed/stable_diffusion.py --size=sd35_medium --dtype=bfloat16   (one of pipelines.py)

Result of the small 1.x (tiny), batches of 8, on 2 CPU cores (x86_64, jax 0.10.2, torch 2.13.0), float32, images/s and
the share of one large product:
                                jaxmoust          torch, eager      torch, compiled
    20 steps, guidance 7.5     35.85 (33 %)     21.47 1.67x     27.75 1.29x
    20 steps, guidance 1.0     63.36 (31 %)     26.56 2.39x     43.39 1.46x
    an update, full           205.13 (14 %)    161.41 1.27x    178.67 1.15x
    an update, lora           294.61 (13 %)    185.61 1.59x    224.42 1.31x
Again with diffusers 0.39: 2.29x of torch compiled at guidance 1.0, 1.54x and 1.22x of an update.
Of a small 3 (tiny_sd3), in the same way:
    20 steps, guidance 1.0     13.93 (73 %)      9.90 1.41x     11.41 1.22x
    an update, full            38.44 (29 %)     62.28 0.62x     70.28 0.55x
    an update, lora            52.75 (27 %)     57.76 0.91x     62.77 0.84x
More than a quarter of such an update goes into copies: the gradient of a dense layer wants what comes from above
transposed, and XLA computes all of that again in the order of the copy. Neither its other library for products nor its
other emitter of fusions is faster here (34 to 39 images/s all four).
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peers
import pipelines
from pipelines import NUM_CLASSES, RANK, TRAINED, pipeline_of

from jaxmoust.core.optim import Recipe
from jaxmoust.generate import text_to_image
from jaxmoust.models.stable_diffusion import Loaded, memory
from jaxmoust.runtime import parallel
from jaxmoust.train.loop import init_state, make_step

NUM_STEPS, MOST_BATCHES = 20, 1000


class OursSampling:
    """Batches of one set, sampled by `generate.text_to_image` on every device."""

    def __init__(self, size: str, batch_size: int, dtype: str, guidance: float, num_steps: int) -> None:
        """Makes the pipeline."""
        machine, pipeline = parallel.Machine.local(), pipeline_of(size, dtype)
        params = pipelines.random_params(pipeline, dtype)
        self.num_params = sum(leaf.size for leaf in jax.tree.leaves(params[pipeline.NET]))
        request = text_to_image.Request(
            prompts=(("a b c",),) * NUM_CLASSES,
            image_px=pipeline.image_px,
            num_steps=num_steps,
            guidance=guidance,
            per_device_batch=machine.per_device(batch_size),
        )
        labels = np.arange(batch_size * MOST_BATCHES) % NUM_CLASSES
        self.batches = text_to_image.draw(Loaded(pipeline, params), request, 0, labels, np.arange(len(labels)), machine)
        self.batch_size = batch_size

    def __call__(self) -> None:
        """Samples the next batch."""
        images = next(self.batches)
        assert images.dtype == np.uint8 and len(images) == self.batch_size


class OursTraining:
    """Updates of our loop's own step on every device, on latents that were computed before."""

    def __init__(self, size: str, batch_size: int, dtype: str, trained: str) -> None:
        """Makes the state."""
        self.machine = parallel.Machine.all()
        task, frozen, batch = pipelines.training(size, batch_size, dtype, trained)
        recipe = Recipe(batch_size=batch_size, num_steps=1_000_000, learning_rate=1e-5, weight_decay=0.01)
        params = pipelines.random_params(task.pipeline, "float32")
        rng = np.random.default_rng(0)
        net = task.pipeline.net_params(params, task.image_px)
        frozen = {
            name: net[name]
            if name in net
            else jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32).astype(leaf.dtype), tree)
            for name, tree in frozen.items()
        }
        frozen |= {"num_prompts": np.ones(NUM_CLASSES, np.int32)}
        frozen |= {"of_class": 1 + np.arange(NUM_CLASSES, dtype=np.int32)[:, None]}
        state = task.start(params)(init_state(task, recipe, 0))
        self.num_params = sum(leaf.size for leaf in jax.tree.leaves(params[task.pipeline.NET]))
        self.step, self.state = make_step(task, recipe, self.machine), self.machine.replicate(state)
        self.frozen, self.seed = self.machine.replicate(frozen), self.machine.replicate(np.uint32(0))
        rows = np.arange(batch_size)
        self.batch = {"label": rows % NUM_CLASSES, "index": rows, "slot": rows, "source": 0 * rows}
        self.batch = {name: np.asarray(self.batch[name], leaf.dtype) for name, leaf in batch.items()}

    def __call__(self) -> None:
        """One update, until its metrics are here."""
        self.state, metrics = self.step(self.state, self.frozen, self.seed, self.machine.split(self.batch))
        assert np.isfinite(float(metrics["loss"]))


class Torchs:
    """torch's network of the same sizes on the fastest device that it has, and random texts."""

    def __init__(self, size: str, dtype: str) -> None:
        """Makes the network, in float32."""
        import diffusers
        import torch

        self.pipeline, made = pipeline_of(size, dtype), pipelines.configs(size)
        device, self.flow = "cuda" if torch.cuda.is_available() else "cpu", "transformer" in made
        kind = diffusers.SD3Transformer2DModel if self.flow else diffusers.UNet2DConditionModel
        net = kind(**made[self.pipeline.NET]).to(device)
        self.net: Any = net if self.flow else net.to(memory_format=torch.channels_last)
        self.device, self.dtype = net.device, getattr(torch, dtype)
        self.num_params = sum(p.numel() for p in net.parameters())

    def noise(self, rows: int, dtype: Any) -> Any:
        """Random latents."""
        import torch

        height, width, channels = self.pipeline.latent_shape(self.pipeline.image_px)
        return torch.randn(rows, channels, height, width, device=self.device, dtype=dtype)

    def texts(self, rows: int, dtype: Any) -> dict[str, Any]:
        """What the network is given of texts."""
        import torch

        given = jax.tree.map(
            lambda leaf: torch.randn(leaf.shape, device=self.device, dtype=dtype),
            pipelines.text_shapes(self.pipeline, rows),
        )
        if not isinstance(given, dict):
            return {"encoder_hidden_states": given}
        states, pooled = given["states"], given["pooled"]
        if self.flow:
            return {"encoder_hidden_states": states, "pooled_projections": pooled}
        sizes = torch.full((rows, 6), float(self.pipeline.image_px), device=self.device, dtype=dtype)
        return {"encoder_hidden_states": states, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}


class TorchsSampling(Torchs):
    """The same steps by torch's networks and its scheduler, as its pipeline goes through them."""

    def __init__(self, size: str, batch_size: int, dtype: str, guidance: float, num_steps: int, compiled: bool) -> None:
        """Makes the networks."""
        import torch
        from diffusers import AutoencoderKL, DDIMScheduler, FlowMatchEulerDiscreteScheduler

        super().__init__(size, dtype)
        self.batch_size, self.guidance, self.num_steps = batch_size, guidance, num_steps
        self.net = self.net.to(self.dtype).eval()
        vae = AutoencoderKL(**pipelines.configs(size)["vae"]).to(self.device, self.dtype).eval()
        self.scaling, self.shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
        self.scheduler: Any = (
            FlowMatchEulerDiscreteScheduler(shift=pipelines.FLOW["shift"])
            if self.flow
            else DDIMScheduler(**pipelines.SCHEDULE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        )
        self.text = self.texts((2 if guidance != 1 else 1) * batch_size, self.dtype)
        self.decode: Any = torch.compile(vae.decode) if compiled else vae.decode
        self.net = torch.compile(self.net) if compiled else self.net

    def __call__(self) -> None:
        """Samples a batch."""
        import torch

        with torch.no_grad():
            self.scheduler.set_timesteps(self.num_steps, device=self.device)
            x = self.noise(self.batch_size, self.dtype)
            for t in self.scheduler.timesteps:
                both = torch.cat([x, x]) if self.guidance != 1 else x
                answer = self.net(both, timestep=t.expand(len(both)), **self.text).sample
                if self.guidance != 1:
                    uncond, cond = answer.chunk(2)
                    answer = uncond + self.guidance * (cond - uncond)
                x = self.scheduler.step(answer, t, x).prev_sample
            image = self.decode(x / self.scaling + self.shift).sample
            image = (image * 127.5 + 127.5).clip(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        assert len(image) == self.batch_size


class TorchsTraining(Torchs):
    """The same updates in torch."""

    def __init__(self, size: str, batch_size: int, dtype: str, trained: str, compiled: bool) -> None:
        """Makes the network, its adapters and its optimizer."""
        import torch

        super().__init__(size, dtype)
        net = self.net.train()
        if trained == "lora":
            from peft import LoraConfig

            net.requires_grad_(False)
            targets = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
            net.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
        learnt = [p for p in net.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(learnt, 1e-5, weight_decay=0.01)
        self.latents, self.text = (make(batch_size, torch.float32) for make in (self.noise, self.texts))
        schedule = pipelines.SCHEDULE
        betas = torch.linspace(schedule["beta_start"] ** 0.5, schedule["beta_end"] ** 0.5, 1000) ** 2
        self.kept = torch.cumprod(1 - betas, 0).to(self.device)
        self.net = torch.compile(net) if compiled else net

    def __call__(self) -> None:
        """One update, until its loss is here."""
        import torch
        from torch.nn.functional import mse_loss

        self.optimizer.zero_grad(set_to_none=True)
        eps = wanted = torch.randn_like(self.latents)
        if self.flow:
            odds = pipelines.FLOW["shift"] * torch.randn(len(eps), device=self.device).exp()
            t = odds / (1 + odds)
            s, wanted = t[:, None, None, None], eps - self.latents
            x, t = (1 - s) * self.latents + s * eps, 1000 * t
        else:
            t = torch.randint(0, 1000, (len(eps),), device=self.device)
            kept = self.kept[t][:, None, None, None]
            x = kept.sqrt() * self.latents + (1 - kept).sqrt() * eps
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            loss = mse_loss(self.net(x, timestep=t, **self.text).sample.float(), wanted)
        loss.backward()
        self.optimizer.step()
        assert np.isfinite(loss.item())


def flops(size: str) -> tuple[float, float]:
    """Operations of one latent's way through the network, and through the decoder."""
    pipeline = pipeline_of(size, "float32")
    x = jax.ShapeDtypeStruct((1, *pipeline.latent_shape(pipeline.image_px)), jnp.float32)
    sigma, text = jax.ShapeDtypeStruct((1,), jnp.float32), pipelines.text_shapes(pipeline, 1)
    given = pipelines.net_shapes(pipeline), text, x, sigma
    network = memory.operations(lambda params, text, x, sigma: pipeline.denoiser(params, text)(x, sigma), *given)
    return network, memory.operations(pipeline.decode_latent, {"vae": pipeline.parameter_shapes()["vae"]}, x)


def measure(size: str, args: argparse.Namespace, ceiling: float) -> None:
    """Prints a table for each way to sample one pipeline and to train it."""
    px = max(512, pipeline_of(size, args.dtype).image_px)
    batch_size = args.batch_size or (2 if args.quick else 8 * 512**2 // px**2)
    num_steps, turns = (2, 1) if args.quick else (NUM_STEPS, args.turns)
    (network, decoder), with_torch, how = flops(size), peers.torch_is_here(args), (size, batch_size, args.dtype)

    def show(title: str, ours: Any, theirs: Any, flops: float, *more: Any) -> None:
        makers = {"jaxmoust": functools.partial(ours, *how, *more)}
        if with_torch and theirs:
            makers["torch, eager"] = functools.partial(theirs, *how, *more, compiled=False)
            makers["torch, compiled"] = functools.partial(theirs, *how, *more, compiled=True)
        try:
            rates = peers.take_turns(makers, batch_size, turns)
        except SystemExit as gone:  # of memory, say; the others may have enough
            print(f"{size}: {title}: {gone}", flush=True)
            return
        peers.show(f"{size}: {title}, batches of {batch_size}", rates, flops, ceiling)

    for guidance in (7.5, 1.0) if args.only != "train" else ():
        title, copies = f"{num_steps} steps, guidance {guidance}", 2 if guidance != 1 else 1
        show(title, OursSampling, TorchsSampling, num_steps * network * copies + decoder, guidance, num_steps)
    for trained in TRAINED if args.only != "sample" else ():
        theirs = TorchsTraining if trained == "full" or peers.is_here("peft") else None
        # Adapters need the gradient of what they sit on, and not that of its weights.
        show(f"an update, {trained}", OursTraining, theirs, (3 if trained == "full" else 2) * network, trained)


def main() -> None:
    """Measures one pipeline, or all that this machine is for."""
    parser = peers.options(__doc__)
    parser.add_argument("--size", choices=tuple(pipelines.SIZES), help="of the pipeline; otherwise all, see above")
    parser.add_argument("--only", choices=("sample", "train", ""), default="", help="one of the two")
    args = parser.parse_args()
    parallel.use_all_cores()
    ceiling = peers.matmul_ceiling(args.dtype, args.quick)
    print(f"{parallel.Machine.all().description}, {args.dtype}: one product {ceiling / 1e12:.3g} TFLOP/s", flush=True)
    sizes = pipelines.SMALL if jax.default_backend() == "cpu" else pipelines.PUBLISHED
    for size in (args.size,) if args.size else sizes:
        measure(size, args, ceiling)


if __name__ == "__main__":
    main()
