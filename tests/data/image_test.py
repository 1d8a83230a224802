"""One image: opened, checked and decoded to what it says, or refused by name."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxmoust.data.image import Encoded, Reading, decode_image, formats, to_channels
from jaxmoust.data.loading.transforms import RandomResizedCrop, Resize


def make_image(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def test_to_channels_luma_is_pils():
    image = make_image(30, 30, 3)
    expected = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    np.testing.assert_array_equal(to_channels(image, 1), expected)


def test_to_channels_grey_to_colour_and_back_is_exact():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(to_channels(to_channels(image, 3), 1), image)


def test_to_channels_refuses_other_numbers():
    with pytest.raises(ValueError, match="expected 1 or 3"):
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
        (encode(Image.new("LAB", (2, 2)), "TIFF"), r"mode LAB, cat\.png, expected 1, L"),
        (encode(Image.new("F", (2, 2), 0.5), "TIFF"), r"cat\.png: its values, of floats, lie from 0\.5 to 0\.5"),
        (encode(Image.new("F", (2, 2), float("nan")), "TIFF"), r"cat\.png: it has values that are no finite numbers"),
        (encode(Image.new("I", (2, 2), 70_000), "TIFF"), r"of 32 bits, lie from 70000 to .*data\.value_range"),
        (bomb(), r"cat\.png.*(decompression bomb|expected at most \d+ pixels)"),
    ],
    ids=["bytes", "truncated", "lab", "floats", "nan", "32 bits", "bomb"],
)
def test_decode_refuses_and_names_a_bad_image(data, said):
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        decode_image(data, "cat.png")


# ---- upright


def quadrants(height=48, width=64):
    """A picture with another colour in each corner, so that each of its eight positions differs."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = (250, 0, 0), (0, 250, 0)
    image[height // 2 :, : width // 2] = (0, 0, 250)
    return image


# What undoes each way of holding a camera, by the definition of EXIF's tag 274 (CIPA DC-008, 4.6.4).
LYING = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image.swapaxes(0, 1)[::-1],
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image.swapaxes(0, 1)[:, ::-1],
}


def taken(format, orientation):
    """The picture as a camera stores it that was held in one of eight ways."""
    image = Image.fromarray(np.ascontiguousarray(LYING[orientation](quadrants())))
    exif = Image.Exif()
    exif[274] = orientation
    return encode(image, format, exif=exif, quality=95)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_decode_turns_photographs_upright_however_the_camera_was_held(format):
    if format not in formats():
        pytest.skip(f"{format} is read by an extra that is not installed")
    # What turns a HEIF image is not EXIF but a property of its own, which the extra applies and cannot write.
    for orientation in LYING if format != "HEIF" else (1,):
        data = taken(format, orientation)
        image = decode_image(data)
        assert image.shape == (48, 64, 3)
        difference = np.abs(image.astype(int) - quadrants())  # edges blur where a format loses
        assert np.median(difference) <= 3 and difference.mean() < 8, orientation
        encoded = Encoded(data, 3, "cat")
        small = Resize(16, 3).map(encoded)
        np.testing.assert_allclose(small.astype(int), Resize(16, 3).map(image), atol=2)
        crop = RandomResizedCrop(16, 3)
        draws = [crop.random_map(one, np.random.default_rng(orientation)) for one in (encoded, image)]
        assert np.abs(np.subtract(*draws, dtype=int)).mean() < 4  # a JPEG is shrunk by its decoder


def test_decode_takes_damaged_exif_for_none():
    data = encode(Image.fromarray(quadrants()), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff")
    assert decode_image(data).shape == (48, 64, 3)


def test_decode_turns_a_png_whose_exif_comes_last():
    data = taken("PNG", 6)
    start = data.index(b"eXIf") - 4
    stop = start + 12 + int.from_bytes(data[start : start + 4], "big")
    data = data[:start] + data[stop:-12] + data[start:stop] + data[-12:]
    assert Resize(16, 3).map(Encoded(data, 3, "cat")).shape == (16, 16, 3)
    np.testing.assert_array_equal(decode_image(data), quadrants())


# ---- 8 opaque bits


def test_decode_lays_transparent_pixels_on_the_background():
    alpha = np.array([[0, 128, 255]], np.uint8)
    colour = np.dstack([np.full((1, 3, 3), 100, np.uint8), alpha])
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.putpixel((1, 0), 1)
    for background, ground in (("white", 255), ("black", 0), ("#808080", 128)):
        reading = Reading(background)
        mixed = round(ground + (100 - ground) * 128 / 255)
        for image in (Image.fromarray(colour), Image.fromarray(colour).convert("LA")):
            found = decode_image(encode(image), reading=reading)
            assert found.shape[2] == len(image.getbands()) - 1
            assert np.abs(found[0, :, 0].astype(int) - [ground, mixed, 100]).max() <= 1
        found = decode_image(encode(palette, transparency=0), reading=reading)
        assert found[0].tolist() == [[ground] * 3, [9, 9, 9]]
    assert decode_image(encode(Image.fromarray(colour).convert("LA")), reading=Reading("red"))[0, 0].tolist() == [
        255,
        0,
        0,
    ]


def test_decode_scales_16_bits_by_their_range_and_floats_by_one_that_is_given():
    deep = Image.fromarray(np.array([[0, 257, 32768, 65535]], np.uint16))
    for format in ("PNG", "TIFF"):
        assert decode_image(encode(deep, format))[0, :, 0].tolist() == [0, 1, 128, 255]
    camera = Image.fromarray(np.array([[0, 2048, 4095, 5000]], np.uint16))
    assert decode_image(encode(camera), reading=Reading(value_range="0,4095"))[0, :, 0].tolist() == [0, 128, 255, 255]
    floats = encode(Image.fromarray(np.array([[-1.0, 0.0, 1.0]], np.float32)), "TIFF")
    assert decode_image(floats, reading=Reading(value_range="-1,1"))[0, :, 0].tolist() == [0, 128, 255]
    assert decode_image(floats, reading=Reading(value_range="file"))[0, :, 0].tolist() == [0, 128, 255]
    flat = encode(Image.new("F", (2, 2), 7.0), "TIFF")
    assert decode_image(flat, reading=Reading(value_range="file")).max() == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"background": "whte"}, "data.background 'whte'"),
        ({"value_range": "1,0"}, "data.value_range '1,0'"),
        ({"value_range": "0"}, "two numbers"),
        ({"value_range": "0,nan"}, "two numbers"),
    ],
)
def test_reading_refuses_what_is_no_colour_and_no_range(fields, said):
    with pytest.raises(ValueError, match=said):
        Reading(**fields)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_decode_takes_the_first_picture_of_several(format):
    frames = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (200, 100, 0)]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    assert decode_image(data)[0, 0].tolist() == [200, 0, 0]
