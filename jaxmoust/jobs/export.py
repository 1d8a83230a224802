"""Verb `export`: writes a trained classifier as safetensors for other libraries, with a config.json and a model card

A classifier that started from a public file is written in that file's layout: timm's `create_model(...,
checkpoint_path=...)`, Hugging Face's `from_pretrained(DIR)` and torchvision's `load_state_dict` read it; --like=PATH
names the file where it has moved. Others are written under this package's own names. README.md says what the classifier
was trained on, and its accuracy with its uncertainty.

  jaxmoust export --checkpoint=runs/mixed --workdir=out
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmoust.jobs.parts.registry import BadInput

if TYPE_CHECKING:
    from jaxmoust.jobs.parts.inputs import Output
    from jaxmoust.jobs.parts.streams import Form
    from jaxmoust.models.classifiers.preprocessing import Preprocessing

# Of Hugging Face's networks with a head, those whose head is linear in what ours is.
HUGGING_FACE = {
    "vit": "ViTForImageClassification",
    "resnet": "ResNetForImageClassification",
    "convnext": "ConvNextForImageClassification",
    "dinov2": "Dinov2ForImageClassification",
    "dinov2_with_registers": "Dinov2WithRegistersForImageClassification",
}

WRITES = ("workdir",)  # flags that are places of this machine, for the command line


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes."""
    parser.add_argument("--checkpoint", default="", help="the folder of a trained classifier; DIR@best for its best")
    parser.add_argument("--workdir", default="", help="the folder to write: a new or an empty one")
    parser.add_argument("--like", default="", help="a public file of the layout; '' is the one that it began as")


def main(args: argparse.Namespace) -> None:
    """Writes the files, whole or not at all."""
    from jaxmoust.jobs.parts.job import refusals

    if not args.checkpoint or not args.workdir:
        raise BadInput("Give --checkpoint=DIR, the folder of a trained classifier, and --workdir=DIR, one to write.")
    with refusals():
        print(_export(args.checkpoint, Path(args.workdir), args.like))


def _export(checkpoint: str, workdir: Path, like: str) -> str:
    """Writes the files; returns what to say."""
    from safetensors.numpy import save_file

    from jaxmoust.data.exporter import whole_folder
    from jaxmoust.jobs.parts.classifier import open_trained
    from jaxmoust.jobs.parts.inputs import Inputs, read_object
    from jaxmoust.models.classifiers import leaving
    from jaxmoust.models.classifiers.backbone import path_of
    from jaxmoust.train.loop import variables_of

    inputs = Inputs()
    output = inputs.output(checkpoint, "classify", "train")
    one = open_trained(output)
    model, variables = leaving.network_of(one.task.model, variables_of(one.state))
    began = output.config["model"].get("weights") or output.config["method"]["pretrained"]
    ours = inputs.path(began) / "checkpoints"
    seen = _seen(one.task.model, one.form)
    if not like and (not began or ours.is_dir() or began.endswith(".npz")):
        family, tensors = leaving.OWN, leaving.own_tensors(variables)
        config = {**output.config["model"], "class_names": list(output.result["class_names"])}
    else:
        public = path_of(like or began)
        said = read_object((public if public.is_dir() else public.parent) / "config.json") or {}
        kind = str(said.get("model_type", ""))
        family, tensors = leaving.as_public(public, model, variables, f"{kind}." if kind else "")
        if family == "Hugging Face" and kind not in HUGGING_FACE:
            raise ValueError(
                f"The config.json beside {public} is of model_type {kind!r}, expected one of "
                f"{', '.join(HUGGING_FACE)}, "
                "whose heads are as ours. Give --like=DIR with the config.json of one of these."
            )
        if kind.startswith("dinov2") and tensors["classifier.weight"].shape[1] == said["hidden_size"]:
            weight = tensors["classifier.weight"]  # its head also reads the mean over patches, ours the class token
            tensors["classifier.weight"] = np.concatenate([weight, np.zeros_like(weight)], axis=1)
        config = _config(family, said, seen, output)
    card = model_card(output, family)

    def write(inside: Path) -> None:
        save_file(tensors, inside / "model.safetensors", {"format": "pt"})
        for name, content in (("config.json", config), ("preprocessor_config.json", _preprocessing(seen))):
            (inside / name).write_text(json.dumps(content, indent=2) + "\n")
        (inside / "README.md").write_text(card, encoding="utf-8")

    whole_folder(workdir, write)
    return f"{len(tensors)} tensors in {family}'s layout, config.json and README.md in {workdir}"


def _seen(model: Any, form: "Form") -> "Preprocessing":
    """How images become what a network reads, in a form that it is evaluated in."""
    from jaxmoust.models.classifiers.preprocessing import Preprocessing
    from jaxmoust.models.classifiers.resnet import IMAGENET_MEAN, IMAGENET_STD

    if form.preprocessing:
        return form.preprocessing
    image_px, _, channels = form.shape
    resize_px = round(image_px / form.transform.crop_fraction)
    if getattr(model, "imagenet_colours", False):
        return Preprocessing(image_px, IMAGENET_MEAN, IMAGENET_STD, resize_px)
    return Preprocessing(image_px, (0.5,) * channels, (0.5,) * channels, resize_px)


def _preprocessing(seen: "Preprocessing") -> dict[str, Any]:
    """The same as Hugging Face's image processors are told it."""
    resample = {"lanczos": 1, "bilinear": 2, "bicubic": 3}.get(seen.interpolation, 0)
    steps: dict[str, Any] = {"do_resize": True, "do_rescale": True, "do_normalize": True, "resample": resample}
    side, square = seen.resize_px or seen.image_px, {"height": seen.image_px, "width": seen.image_px}
    steps |= {"image_mean": list(seen.mean), "image_std": list(seen.std)}
    if seen.squash and side == seen.image_px:
        return {"image_processor_type": "ViTImageProcessor", **steps, "size": square}
    size = {"height": side, "width": side} if seen.squash else {"shortest_edge": side}
    cut = {"size": size, "do_center_crop": True, "crop_size": square}
    return {"image_processor_type": f"{'DeiT' if seen.squash else 'CLIP'}ImageProcessor", **steps, **cut}


def _config(family: str, said: dict[str, Any], seen: "Preprocessing", output: "Output") -> dict[str, Any]:
    """The public file's own config.json with this classifier's classes and size."""
    names, image_px = list(output.result["class_names"]), seen.image_px
    if family == "Hugging Face":
        classes = {"id2label": dict(enumerate(names)), "label2id": {name: k for k, name in enumerate(names)}}
        sizes = {"image_size": image_px} if "image_size" in said else {}
        return {**said, "architectures": [HUGGING_FACE[said["model_type"]]], **classes, **sizes}
    own = said.get("pretrained_cfg")
    own = own if isinstance(own, dict) else {}
    how = {"num_classes": len(names), "input_size": [3, image_px, image_px], "interpolation": seen.interpolation}
    how |= {"mean": list(seen.mean), "std": list(seen.std), "crop_mode": "squash" if seen.squash else "center"}
    how |= {"crop_pct": image_px / (seen.resize_px or image_px)}
    return {**said, "num_classes": len(names), "label_names": names, "pretrained_cfg": {**own, **how}}


def model_card(output: "Output", family: str) -> str:
    """The classifier's training data, and its accuracy with its uncertainty, as Markdown with Hugging Face's header."""
    config, result = output.config, output.result
    library = {"Hugging Face": "transformers", "timm": "timm"}.get(family)
    data, (low, high) = config["data"], result["top1_interval"]
    names = ", ".join(str(name) for name in result["class_names"])
    sets = ", ".join(Path(ref).name for ref in data["synthetic"])
    mixed = f" {result['n_synthetic']:,} synthetic images ({sets}) make up {result['share']:.0%} of what it was shown."
    head = ["pipeline_tag: image-classification", *([f"library_name: {library}"] if library else [])]
    began = config["model"].get("weights") or config["method"]["pretrained"]
    began = Path(began).name or "no other network"  # a name: paths are nobody's business
    title = config["model"]["name"] if config["model"]["name"] != "backbone" else began
    how = f"It began as {began} and took {result['steps']:,} steps."
    if result.get("learn") == "probe":
        how = f"It is a linear head, fitted on the features of {began}, left unchanged (penalty {result['l2']:g})."
    worst = f"; of the worst class {result['worst_class']:.2f} %" if "worst_class" in result else ""
    return "\n".join(
        [
            *("---", *head, "---", "", f"# {title} for {len(result['class_names'])} classes", ""),
            f"Names one of: {names}.",
            *("", "## What it was trained on", ""),
            f"{result['n_base']:,} real images of {data['source']} (digest `{result['data_digest']}`), at "
            f"{result['image_shape'][0]} px.{mixed if result['n_synthetic'] else ' No synthetic image.'} {how}",
            *("", "## How sure its accuracy is", ""),
            f"Top-1 {result['top1']:.2f} % on {result['n']:,} test images that this training did not see, 95 % "
            f"interval [{low:.2f}, {high:.2f}] (Wilson's, of the test images alone: another seed would differ); "
            f"balanced accuracy {result['balanced_accuracy']:.2f} %{worst}. Nothing is known of images of other "
            "cameras, places or times than the test images'.",
            *("", "Trained by jaxmoust.", ""),
        ]
    )
