"""How many images a second DINOv2-S gives features of, beside torch's own DINOv2 in the same run.

Random weights, 224 px, the class token after the last norm. Ours is what a probe runs, `Backbone.features`; torch runs
`Dinov2Model` of transformers, eagerly and under torch.compile. The ceiling is one large matrix product.

Run: python experiments/speed/features.py   (torch and transformers are optional)
Cost: 2 minutes on 2 CPU cores; the result's took 8.
Result on 2 CPU cores that others used as well (x86_64, jax 0.10.2, torch 2.13.0), float32, --batch_size=8, 2 turns:
    1.44x of torch compiled, 1.51x of torch run eagerly; 96 % of one large product, which the others held at 0.012
    TFLOP/s. (An earlier run: 1.64x, 1.57x, and 54 % of 0.022 TFLOP/s.)
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import peers

from jaxmoust.models.classifiers.backbone import Backbone
from jaxmoust.models.classifiers.preprocessing import Preprocessing
from jaxmoust.models.classifiers.resnet import IMAGENET_MEAN, IMAGENET_STD
from jaxmoust.models.classifiers.vit import SIZES, ViT
from jaxmoust.runtime import parallel

BATCH_SIZE, IMAGE_PX, PATCH_PX = 16, 224, 14


def sizes(quick: bool) -> tuple[int, dict[str, int]]:
    """The side of an image and the sizes of the network."""
    return (28, peers.SMALL_VIT) if quick else (IMAGE_PX, SIZES["S"])


def network(dtype: str, quick: bool) -> tuple[ViT, jax.ShapeDtypeStruct]:
    """Our network, and an image for it."""
    image_px, size = sizes(quick)
    model = ViT(num_classes=0, patch_px=PATCH_PX, layer_scale=True, dtype=jnp.dtype(dtype), **size)
    return model, jax.ShapeDtypeStruct((1, image_px, image_px, 3), jnp.float32)


class Ours:
    """One batch of features by `Backbone.features`."""

    def __init__(self, batch_size: int, dtype: str, quick: bool) -> None:
        """Initialises the network."""
        model, image = network(dtype, quick)
        self.variables = {
            "params": jax.jit(model.init)(jax.random.key(0), jnp.zeros(image.shape))["params"],
            "stats": {},
        }
        how = Preprocessing(image.shape[1], IMAGENET_MEAN, IMAGENET_STD)
        self.features = jax.jit(Backbone(model, self.variables, how, model.width, "", "random").features)
        self.images = np.zeros((batch_size, *image.shape[1:]), np.float32)
        self.num_params = sum(x.size for x in jax.tree.leaves(self.variables))

    def __call__(self) -> None:
        """Computes the batch."""
        assert np.isfinite(np.asarray(self.features(self.variables, self.images))).all()


class Torchs:
    """The same by torch's network."""

    def __init__(self, batch_size: int, dtype: str, quick: bool, compiled: bool) -> None:
        """Makes the network."""
        import torch
        from transformers import Dinov2Config, Dinov2Model

        image_px, size = sizes(quick)
        names = {"width": "hidden_size", "depth": "num_hidden_layers", "num_heads": "num_attention_heads"}
        config = {names[name]: value for name, value in size.items()}
        net = Dinov2Model(Dinov2Config(**config, image_size=image_px, patch_size=PATCH_PX, use_mask_token=False)).eval()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.num_params = sum(p.numel() for p in net.parameters())
        net = net.to(self.device)
        self.net, self.dtype = torch.compile(net) if compiled else net, dtype
        self.images = torch.zeros(batch_size, 3, image_px, image_px, device=self.device)

    def __call__(self) -> None:
        """Computes the batch."""
        import torch

        with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            assert self.net(self.images).last_hidden_state[:, 0].float().cpu().isfinite().all()


def main() -> None:
    """Measures and prints one table."""
    args = peers.options(__doc__).parse_args()
    parallel.use_all_cores()
    ceiling = peers.matmul_ceiling(args.dtype, args.quick)
    print(f"{parallel.Machine.all().description}, {args.dtype}: one product {ceiling / 1e12:.3g} TFLOP/s")
    how = (args.batch_size or BATCH_SIZE, args.dtype, args.quick)
    makers = {"jaxmoust": partial(Ours, *how)}
    if peers.torch_is_here(args):
        makers["torch, eager"] = partial(Torchs, *how, compiled=False)
        makers["torch, compiled"] = partial(Torchs, *how, compiled=True)
    rates = peers.take_turns(makers, how[0], 1 if args.quick else args.turns)
    model, image = network("float32", args.quick)
    tokens = (image.shape[1] // PATCH_PX) ** 2 + 1
    # Two operations for each weight and token; in every block, products of all pairs of tokens, twice.
    weights = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), image)))
    flops = 2.0 * tokens * weights + 4.0 * model.depth * tokens**2 * model.width
    peers.show(f"features of DINOv2-S, batches of {how[0]}", rates, flops, ceiling)


if __name__ == "__main__":
    main()
