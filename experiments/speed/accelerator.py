"""One command for an accelerator: what the library does a second on it, as a table and as JSON.

Each line has a process of its own, so that its peak of memory is its own and the device is free for the next: updates
of training (ResNet-50, ViT-S and ViT-L at 224 px, EDM's network at 32 px) by the loop's own step, Stable Diffusion 1.5
at 512 px with random weights (sampling, adapters), features of a probe, the loader that feeds them, and three seeds of
a small classifier in one program beside one after another. The share is of one large product of matrices, measured in
the same process. With several devices, each line is measured on one of them, too; where torch and timm are installed,
ResNet-50 and ViT by them, eagerly and compiled.

Run: python experiments/speed/accelerator.py --json=accelerator.json
     python experiments/speed/accelerator.py --tiny     (small networks: does every line run?)
Cost: meant for less than 8 minutes on one GPU or TPU, which was not measured; each line may take --secs=90. --tiny
    takes about 3 minutes of processor time (x86_64, jax 0.10.2).
Result: none yet of an accelerator.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jaxmoust.runtime import parallel

CONFIGS = Path(__file__).parents[2] / "configs"
# Line -> (configuration, classes, images of a batch on one device, what differs of it).
TRAINED: dict[str, tuple[str, int, int, list[str]]] = {
    "train ResNet-50, 224 px": ("classifier/imagenet_resnet50.py", 1000, 256, []),
    "train ViT-S/16, 224 px": (
        *("classifier/vit_l16_finetune.py", 1000, 256),
        ["model.width=384", "model.depth=12", "model.num_heads=6"],
    ),
    "train ViT-L/16, 224 px": ("classifier/vit_l16_finetune.py", 1000, 64, []),
    "train EDM, 32 px": ("generator/cifar10_edm.py", 10, 128, []),
}
TINY = {
    "train ResNet-50, 224 px": ["data.image_px=32", "model.width=8", "model.stage_sizes=1,1"],
    "train EDM, 32 px": [
        "data.image_px=8",
        "model.base_channels=8",
        "model.channel_multipliers=1,1",
        "model.num_blocks=1",
    ],
}
TINY_VIT = ["data.image_px=32", "model.width=32", "model.depth=2", "model.num_heads=2"]
TIMM = {
    "train ResNet-50, 224 px": "resnet50",
    "train ViT-S/16, 224 px": "vit_small_patch16_224",
    "train ViT-L/16, 224 px": "vit_large_patch16_224",
}
SAMPLED, ADAPTED = "sample Stable Diffusion 1.5, 512 px, 20 steps", "train adapters of Stable Diffusion 1.5, 512 px"
FEATURES, LOADED = "features of DINOv2-S, 224 px", "loader, JPEG to 224 px"
IN_TURN, IN_ONE = "3 seeds of a small classifier, in turn", "3 seeds of a small classifier, in one program"
LINES = (*TRAINED, SAMPLED, ADAPTED, FEATURES, LOADED, IN_TURN, IN_ONE)


class Updates:
    """Updates of the loop's own step, on one batch again and again."""

    def __init__(self, line: str, tiny: bool) -> None:
        """Makes the state and a batch as the loader delivers it."""
        import jax
        import numpy as np

        from jaxmoust import build
        from jaxmoust.jobs.parts.configure import configuration
        from jaxmoust.models.stable_diffusion import memory
        from jaxmoust.train.loop import init_state, make_step, row_of

        file, num_classes, each, words = TRAINED[line]
        self.machine = parallel.Machine.all()
        self.images = (2 if tiny else each) * self.machine.num_devices
        words = [*words, *(TINY.get(line, TINY_VIT) if tiny else ()), f"train.batch_size={self.images}"]
        words = [*words, "model.dtype=bfloat16", "optim.micro_batches=1"]
        _, config, _ = configuration(f"{CONFIGS / file}", [f"--config.{word}" for word in words])
        px = config["data"]["image_px"] or 32
        make = build.make_diffuse if config["task"] == "diffuse" else build.make_classify
        given = ((px, px, 3), num_classes, ("loss", "top1", "top5"), self.machine)
        training = build.make_training(make, config, *given, rehearse=False)
        task, recipe = training.task, training.recipe
        self.step = make_step(task, recipe, self.machine)
        self.state = self.machine.replicate(init_state(task, recipe, 0))
        frozen = task.frozen(None) if config["task"] == "classify" else None
        self.frozen, self.seed = self.machine.replicate(frozen), self.machine.replicate(np.uint32(0))
        rows = np.arange(self.images, dtype=np.int32)
        row = row_of(task, (px, px, 3))
        image = np.random.default_rng(0).integers(0, 256, (self.images, *row.shape)).astype(row.dtype)
        self.batch = self.machine.split(
            {"image": image, "label": rows % num_classes, "source": 0 * rows, "index": rows, "slot": rows}
        )
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (self.state, self.frozen, self.seed))
        self.flops = self.machine.num_devices * memory.operations(self.step, *shapes, self.batch)

    def __call__(self) -> None:
        """One update, until its metrics are here."""
        self.state, metrics = self.step(self.state, self.frozen, self.seed, self.batch)
        assert float(metrics["loss"]) == float(metrics["loss"])


class Torchs:
    """The same updates by torch, of timm's network."""

    def __init__(self, line: str, tiny: bool, compiled: bool) -> None:
        """Makes the network and a batch on the device."""
        import timm
        import torch

        self.images, px = (2, 224) if tiny else (TRAINED[line][2], 224)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        name = "resnet18" if tiny else TIMM[line]
        self.net = timm.create_model(name, num_classes=1000).to(self.device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.01, momentum=0.9, nesterov=True)
        image = torch.randint(0, 256, (self.images, 3, px, px), dtype=torch.uint8)
        self.image = image.contiguous(memory_format=torch.channels_last)
        self.label = torch.arange(self.images, device=self.device) % 1000
        self.forward = torch.compile(self.net) if compiled else self.net
        self.flops = 0.0

    def __call__(self) -> None:
        """One update, until its loss is here."""
        import torch

        x = self.image.to(self.device, non_blocking=True).float() / 127.5 - 1
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(self.forward(x).float(), self.label)
        loss.backward()
        self.optimizer.step()
        loss.item()


class Loader:
    """Batches of training images, read from JPEG files and cropped at random."""

    flops, images = 0.0, 64

    def __init__(self, tiny: bool) -> None:
        """Writes the files and opens the stream."""
        import loader

        from jaxmoust.data.loading.transforms import RandomResizedCrop
        from jaxmoust.data.sources.image_folder import image_folder

        self.images = 4 if tiny else 64
        self.folder = tempfile.TemporaryDirectory()
        loader.make_folder(Path(self.folder.name), 8 if tiny else 400)
        crop = RandomResizedCrop(224, 3, loader.AREA, loader.ASPECT)
        source = image_folder(self.folder.name, "all")
        self.stream = loader.ours(source, self.images, 224, train_transform=crop, decoded="none")

    def __call__(self) -> None:
        """The next batch."""
        next(self.stream)


def make(line: str, tiny: bool) -> tuple[Callable[[], None], float, float]:
    """What does a line once, on how many images, by how many operations (0: not counted)."""
    if line in TRAINED:
        updates = Updates(line, tiny)
        return updates, updates.images, updates.flops
    if line == LOADED:
        stream = Loader(tiny)
        return stream, stream.images, 0.0
    if line == FEATURES:
        import features

        images = 4 if tiny else 256
        return features.Ours(images, "bfloat16", tiny), images, 0.0
    if line in (IN_TURN, IN_ONE):
        import seeds

        return seeds.Seeds(3, line == IN_ONE, tiny), 3 * seeds.UPDATES * 64, 0.0
    import stable_diffusion

    size, each = ("tiny", 1) if tiny else ("sd15", 8)
    images = each * parallel.Machine.all().num_devices
    (network, decoder), steps = stable_diffusion.flops(size), 2 if tiny else 20
    if line == ADAPTED:  # the gradient of what adapters sit on, and not that of its weights
        return stable_diffusion.OursTraining(size, images, "bfloat16", "lora"), images, 2 * network * images
    flops = (2 * steps * network + decoder) * images
    return stable_diffusion.OursSampling(size, images, "bfloat16", 7.5, steps), images, flops


def measure(line: str, tiny: bool, torch: str, secs: float) -> dict[str, Any]:
    """Runs a line for a while in this process."""
    started = time.perf_counter()
    if torch:
        contender = Torchs(line, tiny, torch == "compiled")
        run, images, flops = contender, contender.images, 0.0
    else:
        parallel.use_all_cores()
        run, images, flops = make(line, tiny)
    run()
    measured: dict[str, Any] = {"line": line, "by": f"torch, {torch}" if torch else "jaxmoust"}
    measured["first_secs"] = time.perf_counter() - started
    times: list[float] = []
    while len(times) < (2 if tiny else 3) or (not tiny and sum(times) < secs and len(times) < 50):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    seconds = sorted(times)[len(times) // 2]
    measured |= {"images_per_sec": images / seconds, "batch": images}
    if not torch:
        import jax
        import peers

        devices = jax.local_devices()
        measured["device"] = parallel.Machine.all().description
        measured["peak_bytes"] = max((d.memory_stats() or {}).get("peak_bytes_in_use", 0) for d in devices)
        if flops:
            measured["share"] = flops / seconds / peers.matmul_ceiling("bfloat16", tiny)
    return measured


def run_line(line: str, args: argparse.Namespace, environment: dict[str, str], torch: str = "") -> dict[str, Any]:
    """Measures a line in a process of its own; where that fails, why."""
    words = [sys.executable, __file__, f"--line={line}", f"--torch={torch}", f"--measured={args.measured}"]
    words += ["--tiny"] * args.tiny
    try:
        done = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, timeout=args.secs)
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        why = f"more than --secs={args.secs:g}"
    except (IndexError, ValueError):
        why = (done.stderr.strip().splitlines() or ["no word"])[-1]
    return {"line": line, "by": f"torch, {torch}" if torch else "jaxmoust", "error": why}


def show(one: dict[str, Any]) -> str:
    """A line of the table."""
    head = f"{one['line']:<48} {one['by']:<16}"
    if "error" in one:
        return f"{head} not measured: {one['error']}"
    share = f"{100 * one['share']:5.1f} %" if "share" in one else ""
    peak = f"{one['peak_bytes'] / 2**30:.1f} GiB" if one.get("peak_bytes") else ""
    measured = f"{one['images_per_sec']:12,.1f} {share:>8} {peak:>10} {one['first_secs']:8.1f} s"
    return f"{head} {measured}  {one.get('device', '')}".rstrip()


def main() -> None:
    """Measures each line, and prints the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small networks, two calls: does every line run?")
    parser.add_argument("--only", default="", help="lines that have this in their name")
    parser.add_argument("--json", default="", help="a file that receives what was measured")
    parser.add_argument("--secs", type=float, default=90.0, help="that a line may take")
    parser.add_argument("--measured", type=float, default=6.0, help="seconds that are measured, after the first call")
    parser.add_argument("--no-torch", action="store_true", help="our own figures only")
    parser.add_argument("--line", default="", help=argparse.SUPPRESS)
    parser.add_argument("--torch", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.line:
        print(json.dumps(measure(args.line, args.tiny, args.torch, args.measured)))
        return
    args.secs = 600.0 if args.tiny else args.secs  # a small machine compiles slowly
    devices, rows = parallel.survey(), []
    several = len(devices.names) > 1 and devices.platform != "cpu"
    import peers

    torch_is_here = not args.no_torch and all(map(peers.is_here, ("torch", "timm")))
    heads = ("line", "by", "images/s", "share", "peak", "first call")
    print("{:<48} {:<16} {:>12} {:>8} {:>10} {:>10}".format(*heads))
    for line in (line for line in LINES if args.only in line):
        contenders = [partial(run_line, line, args, {})]
        if several and line != LOADED:
            contenders.append(partial(run_line, line, args, devices.environment(devices.names[:1])))
        if torch_is_here and line in TIMM:
            one = devices.environment(devices.names[:1]) if several else {}
            contenders += [partial(run_line, line, args, one, how) for how in ("eager", "compiled")]
        for contender in contenders:
            rows.append(contender())
            print(show(rows[-1]), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
