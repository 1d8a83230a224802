"""One image: opened, checked and decoded to what it says, or refused by name."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxmoust.data.image import decode_image, to_channels


def make_image(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encode(image, format="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def test_to_channels_luma_is_pils():
    image = make_image(30, 30, 3)
    expected = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    np.testing.assert_array_equal(to_channels(image, 1), expected)


def test_to_channels_grey_to_colour_and_back_is_exact():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(to_channels(to_channels(image, 3), 1), image)


def test_to_channels_refuses_other_numbers():
    with pytest.raises(ValueError, match="allowed are 1 and 3"):
        to_channels(make_image(2, 2, 1), 4)


@pytest.mark.parametrize(
    ("mode", "colour", "pixel"),
    [
        ("1", 1, [255]),
        ("L", 7, [7]),
        ("LA", (7, 255), [7]),
        ("RGB", (1, 2, 3), [1, 2, 3]),
        ("RGBA", (1, 2, 3, 255), [1, 2, 3]),
    ],
)
def test_decode_reads_every_8_bit_mode(mode, colour, pixel):
    assert decode_image(encode(Image.new(mode, (2, 2), colour)))[0, 0].tolist() == pixel


def test_decode_reads_palettes_by_their_colours():
    picture = Image.fromarray(np.full((2, 2, 3), (10, 20, 30), np.uint8)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert decode_image(encode(picture))[0, 0].tolist() == [10, 20, 30]


def bomb():
    """A PNG of a few hundred bytes that announces 60,000 x 60,000 pixels."""
    data = bytearray(encode(Image.new("L", (2, 2))))
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + bytes(data[24:29])
    import zlib

    data[12:33] = header + zlib.crc32(header).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no image", "unreadable image, cat.png"),
        (encode(Image.fromarray(make_image(40, 40, 3)))[:900], r"unreadable image, cat\.png.*truncated"),
        (encode(Image.new("RGBA", (2, 2), (1, 2, 3, 128))), r"cat\.png.*transparent"),
        (encode(Image.new("I;16", (2, 2))), r"mode I;16, cat\.png, allowed are 1, L"),
        (bomb(), r"cat\.png.*(decompression bomb|allowed are \d+ pixels)"),
    ],
    ids=["bytes", "truncated", "transparent", "16 bits", "bomb"],
)
def test_decode_refuses_and_names_a_bad_image(data, said):
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        decode_image(data, "cat.png")
