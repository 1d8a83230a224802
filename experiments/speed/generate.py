"""How many images a second EDM's sampler draws, beside NVlabs' own loop on the same network in the same run.

EDM's DDPM++ for CIFAR-10 (55.7 M parameters, random weights), 10 classes, Heun's method on 18 levels: 35 evaluations an
image. Ours is what `jaxmoust sample` runs, noise, classes and rounding to uint8 included; torch runs `edm_sampler` of a
checkout of NVlabs/edm, eagerly and with the network under torch.compile. The ceiling is one large matrix product.

Run: python experiments/speed/generate.py --edm=DIR   (the checkout's generate.py needs `click` too; without it, or
     without torch, only our own figures)
Cost: 13 minutes on 2 CPU cores.
Result on 2 CPU cores (x86_64, jax 0.10.2, torch 2.13.0), float32: 0.12 images/s, 94 % of one large product's 0.177
    TFLOP/s; 1.02x of torch run eagerly, 0.96x of torch compiled.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peers

from jaxmoust.core.diffusion.methods import EDM
from jaxmoust.generate import pixels
from jaxmoust.runtime import parallel

BATCH_SIZE, NUM_STEPS = 4, 18


class Ours:
    """One batch of images drawn by `generate.pixels` on every device."""

    def __init__(self, batch_size: int, dtype: str, quick: bool) -> None:
        """Initialises the network."""
        self.machine = parallel.Machine.all()
        model = peers.make("edm", dtype, quick)
        label = jnp.zeros((1,), jnp.int32)
        params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *peers.SHAPE)), jnp.zeros((1,)), label)["params"]
        self.generator = pixels.Generator(model, EDM(), params, peers.NUM_CLASSES, peers.SHAPE)
        rows = self.machine.per_device(batch_size)
        self.sampling = pixels.Sampling("heun", 4 if quick else NUM_STEPS, per_device_batch=rows)
        self.labels, self.indices = np.arange(batch_size) % peers.NUM_CLASSES, np.arange(batch_size)
        self.num_params = sum(x.size for x in jax.tree.leaves(params))

    def __call__(self) -> None:
        """Draws the batch."""
        (images,) = pixels.draw(self.generator, self.sampling, 0, self.labels, self.indices, self.machine)
        assert images.shape == (len(self.labels), *peers.SHAPE)


class Torchs:
    """The same by NVlabs' sampler on NVlabs' network."""

    def __init__(self, batch_size: int, dtype: str, quick: bool, edm: str, compiled: bool) -> None:
        """Makes the network."""
        import torch

        net = peers.make_torch("edm", quick, edm).eval()
        self.device = next(net.parameters()).device
        self.num_params = sum(p.numel() for p in net.parameters())
        self.sampler, self.dtype = peers.checkout(edm, "generate").edm_sampler, dtype
        self.labels = torch.eye(peers.NUM_CLASSES, device=self.device)[torch.arange(batch_size) % peers.NUM_CLASSES]
        self.num_steps = 4 if quick else NUM_STEPS
        net.model = torch.compile(net.model) if compiled else net.model
        self.net: Any = net

    def __call__(self) -> None:
        """Draws the batch."""
        import torch

        height, width, channels = peers.SHAPE
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            noise = torch.randn(len(self.labels), channels, height, width, device=self.device)
            images = self.sampler(self.net, noise, self.labels, num_steps=self.num_steps)
            images = (images * 127.5 + 128).clip(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        assert images.shape == (len(self.labels), *peers.SHAPE)


def main() -> None:
    """Measures and prints one table."""
    args = peers.options(__doc__).parse_args()
    parallel.use_all_cores()
    ceiling = peers.matmul_ceiling(args.dtype, args.quick)
    print(f"{parallel.Machine.all().description}, {args.dtype}: one product {ceiling / 1e12:.3g} TFLOP/s")
    how = (args.batch_size or BATCH_SIZE, args.dtype, args.quick)
    makers = {"jaxmoust": partial(Ours, *how)}
    if peers.torch_is_here(args) and args.edm:
        makers["torch, eager"] = partial(Torchs, *how, args.edm, compiled=False)
        makers["torch, compiled"] = partial(Torchs, *how, args.edm, compiled=True)
    rates = peers.take_turns(makers, how[0], 1 if args.quick else args.turns)
    steps = 4 if args.quick else NUM_STEPS
    flops = (2 * steps - 1) * peers.forward_flops("edm", args.quick)
    peers.show(f"EDM, {steps} levels, {2 * steps - 1} evaluations, batches of {how[0]}", rates, flops, ceiling)


if __name__ == "__main__":
    main()
