"""Torch's networks of all the families that `load_backbone` reads, small, and what they answer; only with torch.

`python tests/models/classifiers/backbone_torch.py` writes backbone_parity.npz, beside torch, timm, transformers and
torchvision; the tests read that file and need none of them. With --published it writes nothing, and prints how far our
features are from torch's in networks of published sizes (10 minutes on 2 CPU cores, 4 GB).
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

STORED = Path(__file__).with_name("backbone_parity.npz")
CLASSES, WIDTH, HEADS, DEPTH = 5, 24, 2, 3


def pixels(image_px: int) -> np.ndarray:
    """Two images as networks read them, of mean 0 and standard deviation 1: [2, image_px, image_px, 3]."""
    return np.random.RandomState(image_px).normal(size=(2, image_px, image_px, 3)).astype(np.float32)


def hugging_face() -> Iterator[tuple[str, Any, Callable, tuple[int, ...]]]:
    """(name, network, pixels -> (features, logits or None), sizes), of every family; its config is written beside."""
    import transformers as tf

    vit = dict(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=40, image_size=32
    )
    vit |= dict(patch_size=8, num_labels=CLASSES, layer_norm_eps=1e-3)
    net = tf.ViTForImageClassification(tf.ViTConfig(**vit, hidden_act="gelu_new"))
    yield (
        "hf_vit",
        net,
        lambda x, net=net: (
            net.vit(x, interpolate_pos_encoding=True).last_hidden_state[:, 0],
            net(x, interpolate_pos_encoding=True).logits,
        ),
        (32, 48),
    )
    net2 = tf.DeiTForImageClassificationWithTeacher(tf.DeiTConfig(**vit))
    yield (
        "hf_deit_distilled",
        net2,
        lambda x, net=net2: (
            net.deit(x, interpolate_pos_encoding=True).last_hidden_state[:, :2].flatten(1),
            net(x, interpolate_pos_encoding=True).logits,
        ),
        (32, 24),
    )
    dino = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, image_size=42, patch_size=7)
    dino |= dict(num_labels=CLASSES, layer_norm_eps=1e-3)
    net3 = tf.Dinov2ForImageClassification(tf.Dinov2Config(**dino))
    yield (
        "hf_dinov2",
        net3,
        lambda x, net=net3: (_class_and_mean(net.dinov2(x).last_hidden_state, 1), net(x).logits),
        (
            42,
            28,
        ),
    )
    net4 = tf.Dinov2Model(tf.Dinov2Config(**dino, use_swiglu_ffn=True))
    yield "hf_dinov2_giant", net4, lambda x, net=net4: (net(x).last_hidden_state[:, 0], None), (42, 56)
    net5 = tf.Dinov2WithRegistersModel(tf.Dinov2WithRegistersConfig(**dino, num_register_tokens=4))
    yield "hf_dinov2_registers", net5, lambda x, net=net5: (net(x).last_hidden_state[:, 0], None), (42, 28)
    tower = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=40)
    seen = dict(**tower, image_size=32, patch_size=8)
    text = dict(**tower, vocab_size=9, max_position_embeddings=5, eos_token_id=8, bos_token_id=7)
    net6 = tf.CLIPModel(tf.CLIPConfig(vision_config=seen, text_config=text, projection_dim=CLASSES))
    yield (
        "hf_clip",
        net6,
        lambda x, net=net6: (
            net.vision_model(x, interpolate_pos_encoding=True).pooler_output,
            net.get_image_features(x, interpolate_pos_encoding=True),
        ),
        (32, 48),
    )
    sides = dict(vision_config={**seen, "image_size": 36}, text_config=dict(**tower, vocab_size=9))
    net7 = tf.SiglipModel(tf.SiglipConfig(**sides))
    yield (
        "hf_siglip",
        net7,
        lambda x, net=net7: (
            net.get_image_features(x, interpolate_pos_encoding=True),
            None,
        ),
        (36, 48),
    )
    stages = dict(depths=[1, 2, 1, 1], hidden_sizes=[8, 12, 16, 24], num_labels=CLASSES)
    net8 = tf.ConvNextForImageClassification(tf.ConvNextConfig(**stages, hidden_act="gelu_new"))
    yield "hf_convnext", net8, lambda x, net=net8: (net.convnext(x).pooler_output, net(x).logits), (64, 96)
    stages |= dict(embedding_size=8, hidden_sizes=[32, 64, 128, 256], downsample_in_bottleneck=True)
    net9 = tf.ResNetForImageClassification(tf.ResNetConfig(**stages, layer_type="bottleneck"))
    yield "hf_resnet_v1", net9, lambda x, net=net9: (net.resnet(x).pooler_output.flatten(1), net(x).logits), (64, 96)


def _class_and_mean(states: Any, first_patch: int) -> Any:
    import torch

    return torch.cat([states[:, 0], states[:, first_patch:].mean(dim=1)], dim=1)


_8 = dict(patch_size=8, img_size=32, num_classes=CLASSES)
_7 = dict(patch_size=7, img_size=42, num_classes=0)
TIMM: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "timm_vit": ("vit_small_patch16_224", _8, (32, 48)),
    "timm_vit_avg": ("vit_base_patch16_224", {**_8, "global_pool": "avg"}, (32,)),
    "timm_reg_gap": ("vit_medium_patch16_reg4_gap_256", {**_8, "num_classes": 0}, (32, 24)),
    "timm_deit_distilled": ("deit_tiny_distilled_patch16_224", _8, (32, 48)),
    "timm_deit3": ("deit3_small_patch16_224", _8, (32, 24)),
    "timm_dinov2": ("vit_small_patch14_dinov2", _7, (42, 28)),
    "timm_dinov2_registers": ("vit_base_patch14_reg4_dinov2", _7, (42, 56)),
    "timm_dinov2_giant": ("vit_giant_patch14_reg4_dinov2", _7, (42,)),
    "timm_clip": ("vit_base_patch32_clip_quickgelu_224", _8, (32, 48)),
    "timm_siglip": ("vit_so400m_patch16_siglip_256", {**_8, "num_classes": 0}, (32,)),
    "timm_convnext": ("convnext_atto", dict(depths=(1, 2, 1, 1), dims=(8, 12, 16, 24), num_classes=CLASSES), (64,)),
}


def timms() -> Iterator[tuple[str, Any, Callable, tuple[int, ...]]]:
    """The same of timm, by its own names of architectures."""
    import timm

    for name, (architecture, how, sizes) in TIMM.items():
        small = dict(embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS) if "patch_size" in how else {}
        small |= {"dynamic_img_size": True} if small else {}
        net = timm.create_model(architecture, **how, **small)

        def run(x: Any, net: Any = net, classes: int = how["num_classes"]) -> Any:
            states = net.forward_features(x)
            features = net.forward_head(states, pre_logits=True)
            if "Distilled" in type(net).__name__:
                features = states[:, :2].flatten(1)
            return features, net(x) if classes else None

        net.own_config = {
            "architecture": architecture,
            "num_classes": how["num_classes"],
            "model_args": {**how, **small},
        }
        yield name, net, run, sizes


def architectures() -> dict[str, tuple[int, int, str, float]]:
    """Width, heads, activation and epsilon of timm's plain ViTs and DeiTs by their names; nothing is computed."""
    import timm
    import torch

    rates, facts = torch.linspace, {}
    torch.linspace = lambda *args, **how: rates(*args, **{**how, "device": "cpu"})
    for name in timm.list_models(["vit_*", "deit*"]):
        with torch.device("meta"):
            net = timm.create_model(name)
        block = net.blocks[0] if type(net).__name__.startswith("VisionTransformer") else None
        if type(block).__name__ == "Block" and type(block.norm1).__name__ == "LayerNorm":
            facts[name] = (net.embed_dim, block.attn.num_heads, type(block.mlp.act).__name__, block.norm1.eps)
    torch.linspace = rates
    return facts


def torchvisions() -> Iterator[tuple[str, Any, Callable, tuple[int, ...]]]:
    """The same of torchvision, whose files have no config.json."""
    import torchvision.models as tv
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt
    from torchvision.models.vision_transformer import interpolate_embeddings

    how = dict(patch_size=8, num_layers=DEPTH, num_heads=HEADS, hidden_dim=WIDTH, mlp_dim=40, num_classes=CLASSES)
    net = tv.VisionTransformer(image_size=32, **how)

    def run(x: Any, net: Any = net) -> Any:
        at = net
        if x.shape[-1] != 32:
            at = tv.VisionTransformer(image_size=x.shape[-1], **how).eval()
            at.load_state_dict(interpolate_embeddings(x.shape[-1], 8, net.state_dict()))
        logits, at.heads = at(x), at.heads
        import torch

        heads, at.heads = at.heads, torch.nn.Identity()
        features, at.heads = at(x), heads
        return features, logits

    yield "tv_vit", net, run, (32, 48)
    blocks = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, 16, 2), CNBlockConfig(16, 24, 1), CNBlockConfig(24, None, 1)]
    net2 = ConvNeXt(blocks, num_classes=CLASSES)
    yield (
        "tv_convnext",
        net2,
        lambda x, net=net2: (
            net.classifier[1](net.classifier[0](net.avgpool(net.features(x)))),
            net(x),
        ),
        (64,),
    )


def answers() -> dict[str, np.ndarray]:
    """What the file holds: of each name its config, its tensors' shapes, and features and logits by size."""
    import torch
    from pretrained_test import weights_of

    content = {"architectures": np.array(json.dumps(architectures()))}
    for make in (hugging_face, timms, torchvisions):
        for name, net, run, sizes in make():
            net.eval()
            shapes = {k: list(v.shape) for k, v in net.state_dict().items() if v.dtype == torch.float32}
            net.load_state_dict({k: torch.as_tensor(v) for k, v in weights_of(shapes).items()}, strict=False)
            own = getattr(net, "own_config", None)
            config = own or (json.loads(net.config.to_json_string()) if hasattr(net, "config") else {})
            content[f"{name}/config"] = np.array(json.dumps(config))
            content[f"{name}/shapes"] = np.array(json.dumps(shapes))
            for side in sizes:
                x = torch.from_numpy(pixels(side).transpose(0, 3, 1, 2).copy())
                with torch.no_grad():
                    features, logits = run(x)
                content[f"{name}/features/{side}"] = features.numpy()
                if logits is not None:
                    content[f"{name}/logits/{side}"] = logits.numpy()
            print(name, {k: v.shape for k, v in content.items() if k.startswith(f"{name}/") and v.ndim})
    return content


PUBLISHED_TIMM = (
    *("resnet18", "resnet50", "resnet101", "convnext_tiny", "convnext_base", "vit_base_patch16_224"),
    *("deit_small_patch16_224", "deit3_small_patch16_224", "vit_base_patch32_clip_quickgelu_224"),
    *("vit_large_patch14_clip_224", "vit_base_patch16_siglip_224", "vit_small_patch14_dinov2"),
    "vit_base_patch14_reg4_dinov2",
)


def published() -> Iterator[tuple[str, Any, dict[str, Any], Callable]]:
    """(name, network of a published size, its config.json, pixels -> features)."""
    import timm
    import torchvision.models as tv
    import transformers as tf

    for name in PUBLISHED_TIMM:
        net = timm.create_model(name, num_classes=0, **({"img_size": 224} if "dinov2" in name else {}))
        own = {"architecture": name, "num_classes": 0}
        yield f"timm {name}", net, own, lambda x, net=net: net.forward_head(net.forward_features(x), pre_logits=True)
    large = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14)
    base = dict(hidden_sizes=[128, 256, 512, 1024], depths=[3, 3, 27, 3])
    for title, one in (
        ("CLIP ViT-B/32", tf.CLIPVisionModel(tf.CLIPVisionConfig())),
        ("CLIP ViT-L/14", tf.CLIPVisionModel(tf.CLIPVisionConfig(**large))),
        ("SigLIP ViT-B/16", tf.SiglipVisionModel(tf.SiglipVisionConfig())),
        ("ConvNeXt-T", tf.ConvNextModel(tf.ConvNextConfig())),
        ("ConvNeXt-B", tf.ConvNextModel(tf.ConvNextConfig(**base))),
        ("ResNet-50", tf.ResNetModel(tf.ResNetConfig())),
    ):
        own = json.loads(one.config.to_json_string())
        yield f"Hugging Face {title}", one, own, lambda x, net=one: net(x).pooler_output.flatten(1)
    for name in ("resnet50", "convnext_tiny", "vit_b_16"):
        net = getattr(tv, name)()
        last = next(part for part in ("fc", "heads", "classifier") if hasattr(net, part))
        yield f"torchvision {name}", net, {}, lambda x, net=net, last=last: _without(net, last, x)


def _without(net: Any, last: str, x: Any) -> Any:
    """What a network's last layer is given; of a ConvNeXt's two, what the second one is."""
    import torch

    head = getattr(net, last)
    setattr(net, last, head[:-1] if last == "classifier" else torch.nn.Identity())
    answer = net(x)
    setattr(net, last, head)
    return answer


def measure() -> None:
    """Prints the largest error of each published network's features, relative to the largest of them."""
    import tempfile

    import jax
    import safetensors.torch
    import torch

    from jaxmoust.models.classifiers.backbone import load_backbone

    torch.manual_seed(0)
    for title, net, config, run in published():
        net.eval()
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            for tensor in (*net.parameters(), *net.buffers()):  # what starts as 0 or 1 hides errors
                if tensor.ndim < 2 and tensor.is_floating_point():
                    tensor.add_(0.1 * torch.rand_like(tensor))
            whole = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
            safetensors.torch.save_file(whole, Path(folder) / "model.safetensors")
            if config:
                (Path(folder) / "config.json").write_text(json.dumps(config))
            ours, x = load_backbone(folder, image_px=224), pixels(224)
            expected = run(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
            images = x * np.float32(ours.preprocessing.std) + np.float32(ours.preprocessing.mean)
            error = np.abs(np.asarray(jax.jit(ours.features)(ours.variables, images)) - expected).max()
            count = sum(tensor.numel() for tensor in net.parameters())
        print(f"{title:50} {count / 1e6:6.1f} M  {error / np.abs(expected).max():.1e}", flush=True)


if __name__ == "__main__":
    if "--published" in sys.argv:
        measure()
        sys.exit()
    np.savez_compressed(STORED, **answers())
    print(STORED, STORED.stat().st_size, "bytes")
