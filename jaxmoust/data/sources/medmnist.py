"""MedMNIST's .npz files: BloodMNIST and its siblings, 28 to 224 px, read without ever unpickling.

"train" is MedMNIST's own training split and nothing more, so that a result stands beside the published ones; its
validation split is "val", and whoever wants both to learn from asks for "train+val".
"""

import math
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxmoust.data.source import Source, from_arrays
from jaxmoust.data.sources.archive import MAX_RATIO, swells
from jaxmoust.data.sources.image_folder import check_split

_SPLITS = ("train", "val", "test", "train+val")
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

    Classes have the names of CLASS_NAMES where the file is called as it was published (bloodmnist.npz,
    bloodmnist_224.npz), else the numbers of the labels.

    Args:
        split: "train", "val", "test" or "train+val".
        path: the .npz file.
    Raises: ValueError: no such file, another kind of file, several labels an image (ChestMNIST), volumes (the 3D
        sets), or arrays whose sizes contradict each other.
    """
    file = Path(path).expanduser()
    check_split(split, "medmnist", _SPLITS)
    if not file.is_file():
        raise ValueError(f"Got no file {str(file)!r}, allowed is one of MedMNIST's .npz files: give it as the path.")
    try:
        with zipfile.ZipFile(file) as archive:
            labels = {part: _labels(_read(archive, f"{part}_labels", file), file) for part in ("train", "val", "test")}
            images = [_images(_read(archive, f"{part}_images", file), file) for part in split.split("+")]
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"Got {file}, which is no whole .npz file: {error}. Fetch it again.") from error
    known = re.fullmatch(r"([a-z]+)(?:_\d+)?", file.stem)
    count = 1 + max(int(part.max(initial=0)) for part in labels.values())
    names = CLASS_NAMES.get(known[1] if known else "", tuple(map(str, range(count))))
    chosen = np.concatenate([labels[part] for part in split.split("+")])
    return from_arrays(images[0] if len(images) == 1 else np.concatenate(images), chosen, names, f"{file.stem}/{split}")


def _labels(array: np.ndarray, file: Path) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] > 1:
        raise ValueError(
            f"Got {array.shape[1]} labels an image in {file}, allowed is one class an image: sets with several "
            f"(ChestMNIST) cannot be used."
        )
    if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"Got labels of shape {array.shape} and type {array.dtype} in {file}, allowed are integers [N, 1]: fetch "
            f"the file again."
        )
    return array.reshape(-1).astype(np.int32)


def _images(array: np.ndarray, file: Path) -> np.ndarray:
    if array.dtype != np.uint8 or not (array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in (1, 3))):
        raise ValueError(
            f"Got images of shape {array.shape} and type {array.dtype} in {file}, allowed is uint8 [N, H, W] or "
            f"[N, H, W, 3]: the 3D sets cannot be used."
        )
    return array


def _read(archive: zipfile.ZipFile, name: str, file: Path) -> np.ndarray:
    """Reads one array, of which nothing is believed: its header, its member's size and its bytes must agree.

    numpy's own reader would do, but for a header that announces more memory than there is.
    """
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError as error:
        raise ValueError(
            f"Got {file} without {name}, allowed is one of MedMNIST's .npz files: correct the path."
        ) from error
    with archive.open(info) as member:
        try:
            version = np.lib.format.read_magic(member)
            read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
            shape, fortran, dtype = read_header(member)
        except (ValueError, KeyError) as error:
            raise ValueError(f"Got {name} in {file}, which is no array: {error}. Fetch the file again.") from error
        num_bytes = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or info.file_size != member.tell() + num_bytes or swells(info):
            raise ValueError(
                f"Got {name} in {file}, {dtype} {shape} of {info.file_size:,} bytes, packed {info.compress_size:,}, "
                f"allowed are plain numbers, as many as announced, packed at most {MAX_RATIO} to 1: fetch the file "
                f"again."
            )
        array = np.empty(num_bytes, np.uint8)
        filled = 0
        while filled < num_bytes and (got := member.readinto(array[filled:].data)):
            filled += got
        if filled < num_bytes or member.read(1):
            raise ValueError(f"Got {name} in {file}, which ends early: fetch the file again.")
    return array.view(dtype).reshape(shape, order="F" if fortran else "C")
