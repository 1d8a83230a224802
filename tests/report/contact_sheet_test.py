"""Contact sheets: the first images of each class, whatever their size, in little memory."""

import numpy as np
import pytest
from PIL import Image

from jaxmoust.data.source import from_arrays
from jaxmoust.data.sources.image_folder import image_folder
from jaxmoust.report.contact_sheet import contact_sheet


def test_contact_sheet_shows_small_images_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 3), dtype=np.uint8)
    sheet = np.asarray(contact_sheet(from_arrays(images, np.arange(6) % 2), per_class=3))
    assert sheet.shape == (2 * 48 + 6, 3 * 54 - 6, 3)
    np.testing.assert_array_equal(sheet[54:, 54:102], images[3])


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize(("size", "side"), [((1200, 1200), 256), ((1200, 800), 64)])
def test_contact_sheet_shows_large_files_small(tmp_path, suffix, size, side):
    """The left half is black and the right half white, of which the middle is seen."""
    (tmp_path / "cat").mkdir()
    image = Image.new("L", size)
    image.paste(255, (size[0] // 2, 0, *size))
    for i in range(2):
        image.save(tmp_path / "cat" / f"{i}.{suffix}")
    sheet = np.asarray(contact_sheet(image_folder(str(tmp_path), "all"), per_class=2))
    assert sheet.shape[0] == side and sheet.shape[1] == 2 * side + side // 8
    near = side // 2 - 4
    assert sheet[:, :near].max() < 8 and sheet[:, side - near : side].min() > 247
