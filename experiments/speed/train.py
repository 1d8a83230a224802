"""How many images a second one update of training takes in, beside torch on the same network in the same run.

ResNet-18 (CIFAR stem), ViT-S (patch 4), DiT-S/4 as a rectified flow, and EDM's DDPM++ (55.7 M), all at 32 px with 10
classes. An update is what our
loop does for a batch: uint8 images from the host, loss, gradients, optimizer (SGD-Nesterov with weight decay; AdamW;
Adam and the average of parameters). torch does the same with the peers' networks, eagerly and with torch.compile,
convolutions in channels_last. No augmentation on either side. The ceiling is one large matrix product.

Run: python experiments/speed/train.py --edm=DIR   (a checkout of NVlabs/edm; without it no peer for EDM; torch and
     transformers are optional: without them only our own figures)
Cost: 7 minutes on 2 CPU cores.
Result on 2 CPU cores (x86_64, jax 0.10.2, torch 2.13.0), float32, images/s and the share of one large product, 0.159
    TFLOP/s:
                             jaxmoust        torch, eager          torch, compiled
    ResNet-18, 128 a batch   30.7 (56 %)     47.1 (86 %) 0.65x     51.1 (93 %) 0.60x
    ViT-S, 64                12.7 (70 %)     14.7 (81 %) 0.87x     17.0 (94 %) 0.75x
    EDM, 8                   1.02 (77 %)     1.36 (103 %) 0.75x    1.31 (99 %) 0.78x
DiT-S/4, 64 a batch, of another day (jax 0.12.0.1, a product of 0.179 TFLOP/s): 11.0 images/s (53 %), torch run eagerly
    21.2 (101 %), compiled 21.0 (100 %): 0.52x. It was not profiled.
What is missing, by profile: forward all of it runs at the product's speed (generate.py); on the way back XLA copies
    the operands of each convolution's weight gradient into another order, batch norm and ReLU pass over memory once
    more, and the two devices wait for each other; ViT's scan over blocks costs a tenth.
"""

from functools import partial

import jax
import numpy as np
import peers

from jaxmoust.core.diffusion.methods import EDM, Flow
from jaxmoust.core.optim import Recipe
from jaxmoust.runtime import parallel
from jaxmoust.train.classify import Classify
from jaxmoust.train.diffuse import Diffuse
from jaxmoust.train.loop import init_state, make_step

BATCH_SIZES = {"resnet18": 128, "vit_s": 64, "dit_s": 64, "edm": 8}
RECIPES = {
    "resnet18": dict(name="sgd", learning_rate=0.1, weight_decay=5e-4),
    "vit_s": dict(name="adamw", learning_rate=1e-3, weight_decay=0.05),
    "dit_s": dict(name="adamw", learning_rate=1e-4, decay=False, ema_half_life_images=1_774_368.0),
    "edm": dict(name="adam", learning_rate=1e-3, ema_half_life_images=500_000.0),
}


def make_batch(batch_size: int) -> dict[str, np.ndarray]:
    """One batch as the loader delivers it."""
    return {
        "image": np.random.default_rng(0).integers(0, 256, (batch_size, *peers.SHAPE), np.uint8),
        "label": np.arange(batch_size, dtype=np.int32) % peers.NUM_CLASSES,
        "source": np.zeros(batch_size, np.int32),
        "slot": np.arange(batch_size, dtype=np.uint32),
    }


class Ours:
    """Updates of our loop's own step on every device, one batch again and again."""

    def __init__(self, name: str, batch_size: int, dtype: str, quick: bool) -> None:
        """Initialises the state."""
        model, size = peers.make(name, dtype, quick), dict(num_classes=peers.NUM_CLASSES, image_shape=peers.SHAPE)
        method = {"edm": EDM, "dit_s": Flow}.get(name)
        task = Diffuse(model, method(), **size) if method else Classify(model, **size)
        recipe = Recipe(batch_size=batch_size, num_steps=1_000_000, **RECIPES[name])
        self.machine = parallel.Machine.all()
        self.step = make_step(task, recipe, self.machine)
        self.state = self.machine.replicate(init_state(task, recipe, 0))
        self.frozen, self.seed = self.machine.replicate(None), self.machine.replicate(np.uint32(0))
        self.batch = make_batch(batch_size)
        self.num_params = sum(x.size for x in jax.tree.leaves(self.state.params))

    def __call__(self) -> None:
        """One update, until its metrics are here."""
        batch = self.machine.split(self.batch)
        self.state, metrics = self.step(self.state, self.frozen, self.seed, batch)
        assert np.isfinite(float(metrics["loss"]))


class Torchs:
    """The same updates in torch, run eagerly or compiled."""

    def __init__(self, name: str, batch_size: int, dtype: str, quick: bool, edm: str, compiled: bool) -> None:
        """Makes the network, its optimizer and its average."""
        import torch

        self.net = peers.make_torch(name, quick, edm).train()
        self.device = next(self.net.parameters()).device
        batch = make_batch(batch_size)
        self.image = torch.from_numpy(batch["image"])
        self.label = torch.from_numpy(batch["label"]).long().to(self.device)
        self.one_hot = torch.nn.functional.one_hot(self.label, peers.NUM_CLASSES).float()
        self.layout = torch.contiguous_format if name.endswith("t_s") else torch.channels_last
        self.dtype = dtype
        params, self.average = list(self.net.parameters()), None
        self.num_params = sum(p.numel() for p in params)
        if name == "resnet18":
            self.optimizer = torch.optim.SGD(params, 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
        elif name == "vit_s":
            self.optimizer = torch.optim.AdamW(params, 1e-3, weight_decay=0.05)
        else:
            kind, rate = (torch.optim.AdamW, 1e-4) if name == "dit_s" else (torch.optim.Adam, 1e-3)
            self.optimizer = kind(params, rate, weight_decay=0.0)
            self.average = [p.detach().clone() for p in params]
        loss = self.classification_loss
        if name == "edm":
            self.edm_loss, loss = peers.checkout(edm, "training.loss").EDMLoss(), self.denoising_loss
        elif name == "dit_s":
            loss = self.flow_loss
        self.loss = torch.compile(loss) if compiled else loss

    def classification_loss(self, x):
        """Mean cross-entropy."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(self.net(x).logits, self.label)

    def flow_loss(self, x):
        """The rectified flow's."""
        return self.net.loss(x, self.label)

    def denoising_loss(self, x):
        """NVlabs' loss."""
        return self.edm_loss(self.net, x, self.one_hot).mean()

    def __call__(self) -> None:
        """One update, until its loss is here."""
        import torch

        x = self.image.to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        x = x.contiguous(memory_format=self.layout)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            loss = self.loss(x)
        loss.backward()
        self.optimizer.step()
        if self.average:
            with torch.no_grad():
                torch._foreach_lerp_(self.average, list(self.net.parameters()), 1e-4)
        assert np.isfinite(loss.item())


def main() -> None:
    """Measures and prints one table a network."""
    parser = peers.options(__doc__)
    parser.add_argument("--only", default=",".join(BATCH_SIZES), help="networks, by comma")
    args = parser.parse_args()
    parallel.use_all_cores()
    ceiling = peers.matmul_ceiling(args.dtype, args.quick)
    print(f"{parallel.Machine.all().description}, {args.dtype}: one product {ceiling / 1e12:.3g} TFLOP/s")
    for name in args.only.split(","):
        batch_size = args.batch_size or (8 if args.quick else BATCH_SIZES[name])
        how = (name, batch_size, args.dtype, args.quick)
        makers = {"jaxmoust": partial(Ours, *how)}
        if peers.torch_is_here(args) and (name != "edm" or args.edm):
            makers["torch, eager"] = partial(Torchs, *how, args.edm, compiled=False)
            makers["torch, compiled"] = partial(Torchs, *how, args.edm, compiled=True)
        rates = peers.take_turns(makers, batch_size, 1 if args.quick else args.turns)
        flops = 3 * peers.forward_flops(name, args.quick)
        peers.show(f"{name}, batches of {batch_size}", rates, flops, ceiling)


if __name__ == "__main__":
    main()
