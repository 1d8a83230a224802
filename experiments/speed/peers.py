"""What the benchmarks of networks share: networks here and in torch, the chip's matmul ceiling, taking turns.

The torch networks are the peers' own: ResNet and ViT of `transformers` (the ResNet with a CIFAR stem), DDPM++ and its
sampler from a checkout of NVlabs/edm; and a DiT as torch's users write it, torch_dit.py (that of `diffusers` embeds the
time in every block anew). Parameter counts are compared, so that a ratio is of one network with itself.
"""

import argparse
import contextlib
import importlib.util
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxmoust.models.classifiers.resnet import DEPTHS, ResNet
from jaxmoust.models.classifiers.vit import SIZES, ViT
from jaxmoust.models.dit import DiT
from jaxmoust.models.unet.unet import PUBLISHED
from jaxmoust.runtime import parallel

SHAPE, NUM_CLASSES = (32, 32, 3), 10
SMALL_VIT = {"width": 16, "depth": 2, "num_heads": 2}


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that the scripts share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small networks, few images, one turn: does it run?")
    parser.add_argument("--no-torch", action="store_true", help="our own figures only")
    parser.add_argument("--edm", default="", metavar="DIR", help="a checkout of NVlabs/edm, whose network is the peer")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the computation")
    parser.add_argument("--batch_size", type=int, default=0, help="0: as fits 2 CPU cores")
    parser.add_argument("--turns", type=int, default=3, help="figures are medians over so many")
    return parser


def make(name: str, dtype: str, quick: bool) -> nn.Module:
    """Our network: "resnet18", "vit_s", "dit_s" (patches of 4 px) or "edm"."""
    how: dict[str, Any] = {"dtype": jnp.dtype(dtype)}
    if name == "resnet18":
        small = {"width": 8} if quick else {}
        return ResNet(num_classes=NUM_CLASSES, stem="cifar", axis_name=parallel.AXIS, **DEPTHS[18], **small, **how)
    size = SMALL_VIT if quick else SIZES["S"]
    if name == "vit_s":
        return ViT(num_classes=NUM_CLASSES, patch_px=4, **size, **how)
    if name == "dit_s":
        return DiT(out_channels=SHAPE[2], num_classes=NUM_CLASSES, patch_size=4, **size, **how)
    small = {"base_channels": 8, "num_blocks": 1} if quick else {}
    return PUBLISHED["ddpmpp_cifar10"](out_channels=SHAPE[2], num_classes=NUM_CLASSES, **small, **how)


def make_torch(name: str, quick: bool, edm: str) -> Any:
    """The peer's network of the same sizes, on the fastest device that torch has."""
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "dit_s":
        import torch_dit

        return torch_dit.DiT(SHAPE[0], SHAPE[2], NUM_CLASSES, 4, **(SMALL_VIT if quick else SIZES["S"])).to(device)
    if name == "resnet18":
        width = 8 if quick else 64
        widths = [width * 2**i for i in range(4)]
        sizes = dict(embedding_size=width, hidden_sizes=widths, depths=[2, 2, 2, 2], layer_type="basic")
        net = ResNetForImageClassification(ResNetConfig(num_labels=NUM_CLASSES, **sizes))
        stem = net.resnet.embedder
        stem.embedder.convolution = torch.nn.Conv2d(3, width, 3, padding=1, bias=False)
        stem.pooler = torch.nn.Identity()
    elif name == "vit_s":
        size = SMALL_VIT if quick else SIZES["S"]
        net = ViTForImageClassification(
            ViTConfig(
                image_size=SHAPE[0],
                patch_size=4,
                hidden_size=size["width"],
                intermediate_size=4 * size["width"],
                num_hidden_layers=size["depth"],
                num_attention_heads=size["num_heads"],
                num_labels=NUM_CLASSES,
                hidden_dropout_prob=0.0,
            )
        )
    else:
        small = {"model_channels": 8, "num_blocks": 1} if quick else {}
        net = checkout(edm, "training.networks").EDMPrecond(
            **dict(img_resolution=SHAPE[0], img_channels=SHAPE[2], label_dim=NUM_CLASSES, model_type="SongUNet"),
            **dict(dropout=0.13, channel_mult=[2, 2, 2]) | small,
        )
    net = net.to(device)
    return net if name == "vit_s" else net.to(memory_format=torch.channels_last)


def checkout(folder: str, module: str) -> ModuleType:
    """Imports a module of a checkout of NVlabs/edm."""
    if not (Path(folder) / "training" / "networks.py").is_file():
        raise SystemExit(f"--edm={folder!r} is no checkout of NVlabs/edm: training/networks.py is not in it.")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(folder)


def matmul_ceiling(dtype: str, quick: bool) -> float:
    """Operations a second of one large product on each of the devices at once, the best of five."""
    n = 256 if quick else 2048 if jax.default_backend() == "cpu" else 8192
    machine = parallel.Machine.local()
    x = jnp.ones((machine.num_devices, n, n), dtype)
    product = machine.map(lambda x: x @ x, 0)
    product(x).block_until_ready()

    def once() -> float:
        start = time.perf_counter()
        product(x).block_until_ready()
        return time.perf_counter() - start

    return machine.num_devices * 2 * n**3 / min(once() for _ in range(5))


def forward_flops(name: str, quick: bool) -> float:
    """Operations of one image's way through the network, as XLA counts them before it optimises."""
    model = make(name, "float32", quick)
    model = model.clone(scan=False) if name.endswith("t_s") else model  # a loop's body is counted once
    args = (jnp.zeros((1, *SHAPE)),)
    if name in ("edm", "dit_s"):
        args += (jnp.zeros((1,)), jnp.zeros((1,), jnp.int32))
    variables = jax.eval_shape(model.init, jax.random.key(0), *args)
    return jax.jit(model.apply).lower(variables, *args).cost_analysis()["flops"]


def take_turns(makers: dict[str, Callable[[], Any]], images: int, turns: int) -> dict[str, float]:
    """Images a second of each contender: medians over turns.

    Each lives in a process of its own, as the threads of one framework slow another in the same process down.

    Args:
        makers: name -> what makes, in that process, a function to time that knows its `num_params`.
        images: that one call works on.
    """
    context = multiprocessing.get_context("spawn")
    contenders = {}
    for name, maker in makers.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_contend, args=(theirs, maker), daemon=True)
        process.start()
        theirs.close()
        contenders[name] = ours
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        sizes = {name: contender.recv() for name, contender in contenders.items()}
    except EOFError:
        raise SystemExit("A contender gave up; its reason is above. --no-torch leaves the others out.") from None
    if len(set(sizes.values())) > 1:
        raise SystemExit(f"These are different networks: {sizes} parameters.")
    for _ in range(turns):
        for name, contender in contenders.items():
            contender.send("run")
            seconds[name].append(contender.recv())
            time.sleep(0.2)  # until its threads have gone to sleep
    return {name: images / statistics.median(values) for name, values in seconds.items()}


def _contend(connection: Connection, maker: Callable[[], Any]) -> None:
    """Makes a function, compiles it by a call, then, whenever asked, warms it up by one call and times the next.

    A process that slept while another took its turn pays for its memory again in its first call.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    parallel.use_all_cores()
    run = maker()
    run()
    connection.send(run.num_params)
    with contextlib.suppress(EOFError):
        while connection.recv():
            run()
            start = time.perf_counter()
            run()
            connection.send(time.perf_counter() - start)


def show(title: str, rates: dict[str, float], flops: float, ceiling: float) -> None:
    """Prints the rates, our ratio to each, and the share of the ceiling that `flops` an image make of them."""
    print(title)
    for name, rate in rates.items():
        ratio = "" if name == "jaxmoust" else f"   jaxmoust / this: {rates['jaxmoust'] / rate:5.2f}"
        print(f"  {name:28} {rate:10,.2f} images/s   {rate * flops / ceiling:6.1%} of matmul{ratio}", flush=True)


def torch_is_here(args: argparse.Namespace) -> bool:
    """Whether torch and its networks may be used."""
    return not args.no_torch and is_here("torch") and is_here("transformers")


def is_here(package: str) -> bool:
    """Whether a package is installed."""
    return importlib.util.find_spec(package) is not None
