"""MedMNIST's .npz files: BloodMNIST and its siblings, 28 to 224 px, read without ever unpickling.

"train" is MedMNIST's own training split and nothing more, so that a result stands beside the published ones; its
validation split is "val", and whoever wants both to learn from asks for "train+val".
"""

import re
import warnings
from pathlib import Path

import numpy as np

from jaxmoust.data.checks import check_choice
from jaxmoust.data.source import Source, from_arrays
from jaxmoust.runtime.paths import read_npz

_MOST_CLASSES = 1 << 16  # counted by the largest label, and each is given a name
_PARTS = ("train", "val", "test")
_SPLITS = (*_PARTS, "train+val")
_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left"),
    *("lung-right", "pancreas", "spleen"),
)
# The classes of the public sets of single-label 2D images, in the order of their labels.
# Source: Yang et al. 2023, MedMNIST v2 (2110.14795), and the labels published with it.
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "pathmnist": (
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa"),
        *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    ),
    "dermamnist": (
        *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma"),
        *("benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": (
        *("basophil", "eosinophil", "erythroblast"),
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
        *("lymphocyte", "monocyte", "neutrophil", "platelet"),
    ),
    "tissuemnist": (
        *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells"),
        *("Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments"),
        "Thick Ascending Limb",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}


def medmnist(split: str, path: str) -> Source:
    """Opens one split of a MedMNIST file, in memory.

    Classes have the names of CLASS_NAMES where the file's name holds that of a set (bloodmnist.npz, BloodMNIST_224.npz,
    "bloodmnist(1).npz"), else the numbers of the labels, and a warning says so.

    Args:
        split: "train", "val", "test" or "train+val".
        path: the .npz file.
    Raises: ValueError: no such file, another kind of file, several labels an image (ChestMNIST), volumes (the 3D
        sets), or arrays whose sizes contradict each other.
    """
    file = Path(path).expanduser()
    check_choice("split", split, _SPLITS, " of medmnist")
    if not file.is_file():
        raise ValueError(f"Got no file {str(file)!r}, expected one of MedMNIST's .npz files. Give it as the path.")
    wanted = (*(f"{part}_labels" for part in _PARTS), *(f"{part}_images" for part in split.split("+")))
    arrays = read_npz(file, wanted)
    if missing := [name for name in wanted if name not in arrays]:
        raise ValueError(f"Got {file} without {missing[0]}, expected one of MedMNIST's .npz files. Correct the path.")
    labels = {part: _labels(arrays[f"{part}_labels"], file) for part in _PARTS}
    images = [_images(arrays[f"{part}_images"], file) for part in split.split("+")]
    count = 1 + max(int(part.max(initial=0)) for part in labels.values())
    names = _class_names(file, count)
    chosen = np.concatenate([labels[part] for part in split.split("+")])
    return from_arrays(images[0] if len(images) == 1 else np.concatenate(images), chosen, names, f"{file.stem}/{split}")


def _class_names(file: Path, count: int) -> tuple[str, ...]:
    """The names of the set that a file is called after; the labels' numbers where that is none."""
    word = re.sub("[^a-z]", "", file.stem.lower())
    for plane in ("axial", "coronal", "sagittal"):  # as the first version of the sets called them
        word = word.replace(f"organmnist{plane}", f"organ{plane[0]}mnist")
    names = next((names for name, names in CLASS_NAMES.items() if name in word), ())
    if names:
        return names
    warnings.warn(
        f"What the {count} classes of {file} are called is not known, so they are 0 to {count - 1}, in prompts too: a "
        f"file's name says which set it is ({', '.join(CLASS_NAMES)}).",
        stacklevel=3,
    )
    return tuple(map(str, range(count)))


def _labels(array: np.ndarray, file: Path) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] > 1:
        raise ValueError(f"Got {array.shape[1]} labels an image in {file}, expected one; ChestMNIST cannot be used.")
    if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.integer):
        what = f"labels of shape {array.shape} and type {array.dtype}"
        raise ValueError(f"Got {what} in {file}, expected integers [N, 1]. Fetch the file again.")
    array = array.reshape(-1)
    if (wrong := (array < 0) | (array >= _MOST_CLASSES)).any():
        what = f"the label {array[wrong][0]} at image {np.flatnonzero(wrong)[0]}"
        raise ValueError(f"Got {what} in {file}, expected 0 to {_MOST_CLASSES - 1}. Fetch the file again.")
    return array.astype(np.int32)


def _images(array: np.ndarray, file: Path) -> np.ndarray:
    if array.dtype != np.uint8 or not (array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3))):
        raise ValueError(
            f"Got images of shape {array.shape} and type {array.dtype} in {file}, expected uint8 [N, H, W] or "
            f"[N, H, W, 3]. The 3D sets cannot be used."
        )
    return array
