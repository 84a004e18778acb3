"""Images as senders really send them: every colour form and rotation, and files made to hurt.

Every good one shows the same picture, four quarters of known colours (`QUARTERS`), SIZE pixels upright, as far as its
colour form can hold them. The others must be refused for the reason named.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

SIZE = (96, 64)
"""Width and height, pixels."""
QUARTERS = ((220, 40, 30), (30, 170, 60), (40, 60, 200), (240, 220, 80))
"""Upper left, upper right, lower left, lower right; RGB."""
ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class HostileImage:
    """One file and what must come of it.

    Fields:
        data: the file.
        reason: InvalidImageError.reason, or None where the picture must come out.
        quarters: expected colours, RGB.
        tolerance: levels by which the middle of a quarter may differ.
        size: upright width and height; None leaves it unchecked.
    """

    data: bytes
    reason: str | None = None
    quarters: tuple[tuple[int, int, int], ...] = QUARTERS
    tolerance: int = 3
    size: tuple[int, int] | None = SIZE


def picture(size: tuple[int, int] = SIZE) -> Image.Image:
    """The four quarters."""
    width, height = size
    pixels = np.empty((height, width, 3), np.uint8)
    for index, colour in enumerate(QUARTERS):
        rows = slice(0, height // 2) if index < 2 else slice(height // 2, None)
        columns = slice(0, width // 2) if index % 2 == 0 else slice(width // 2, None)
        pixels[rows, columns] = colour
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    """A Pillow image as a file's bytes."""
    with io.BytesIO() as file:
        image.save(file, format_, **options)
        return file.getvalue()


@functools.cache
def hostile_images() -> dict[str, HostileImage]:
    """All cases by name."""
    return {**_colour_forms(), **_rotations(), **_odd_but_good(), **_deep_forms(), **_damaged(), **_refused()}


def usual_files() -> dict[str, bytes]:
    """One valid file of each accepted format, small: what fuzzing starts from."""
    rgb = picture((32, 24))
    files = {name: encoded(rgb, name) for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")}
    files["PROGRESSIVE"] = encoded(rgb, "JPEG", progressive=True, exif=_exif(6))
    files["LZW"] = encoded(rgb, "TIFF", compression="tiff_lzw")
    files["AVIF"] = encoded(rgb, "AVIF")
    return files


def grey() -> tuple[tuple[int, int, int], ...]:
    """QUARTERS without their colour, as ITU-R 601 weighs it."""
    return tuple((level, level, level) for r, g, b in QUARTERS for level in [round(0.299 * r + 0.587 * g + 0.114 * b)])


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def _with_hole() -> Image.Image:
    """The lower right quarter transparent, and red below the transparency."""
    rgba = picture().convert("RGBA")
    rgba.paste((255, 0, 0, 0), (SIZE[0] // 2, SIZE[1] // 2, *SIZE))
    return rgba


def _colour_forms() -> dict[str, HostileImage]:
    rgb, hole = picture(), _with_hole()
    cmyk = rgb.convert("CMYK")
    white_corner = (*QUARTERS[:3], (255, 255, 255))
    grey_corner = (*grey()[:3], (255, 255, 255))
    half = rgb.convert("RGBA")
    half.putalpha(128)
    faded = tuple((r + (255 - r) // 2, g + (255 - g) // 2, b + (255 - b) // 2) for r, g, b in QUARTERS)
    palette = rgb.quantize(4)
    keyed = palette.getpixel((SIZE[0] - 5, SIZE[1] - 5))
    bits = Image.fromarray(np.where(np.asarray(rgb)[..., 0] > 128, 255, 0).astype(np.uint8)).convert("1")
    two = tuple((255, 255, 255) if r > 128 else (0, 0, 0) for r, _, _ in QUARTERS)
    return {
        "jpeg": HostileImage(encoded(rgb, "JPEG", quality=92), tolerance=6),
        "jpeg progressive": HostileImage(encoded(rgb, "JPEG", quality=92, progressive=True), tolerance=6),
        "jpeg grey": HostileImage(encoded(rgb.convert("L"), "JPEG"), quarters=grey(), tolerance=6),
        "jpeg cmyk, inverted as Adobe writes it": HostileImage(encoded(cmyk, "JPEG", quality=95), tolerance=8),
        "png": HostileImage(encoded(rgb, "PNG")),
        "png grey": HostileImage(encoded(rgb.convert("L"), "PNG"), quarters=grey()),
        "png grey with alpha": HostileImage(encoded(hole.convert("LA"), "PNG"), quarters=grey_corner),
        "png transparent over red": HostileImage(encoded(hole, "PNG"), quarters=white_corner),
        "png half transparent": HostileImage(encoded(half, "PNG"), quarters=faded),
        "png palette": HostileImage(encoded(palette, "PNG")),
        "png palette, one colour transparent": HostileImage(
            encoded(palette, "PNG", transparency=keyed), quarters=white_corner
        ),
        "png rgb, one colour transparent": HostileImage(
            encoded(rgb, "PNG", transparency=QUARTERS[3]), quarters=white_corner
        ),
        "png one bit": HostileImage(encoded(bits, "PNG"), quarters=two),
        "gif": HostileImage(encoded(palette, "GIF")),
        "gif transparent": HostileImage(encoded(palette, "GIF", transparency=keyed), quarters=white_corner),
        "webp": HostileImage(encoded(rgb, "WEBP", quality=95), tolerance=8),
        "webp lossless transparent": HostileImage(encoded(hole, "WEBP", lossless=True), quarters=white_corner),
        "bmp": HostileImage(encoded(rgb, "BMP")),
        "tiff": HostileImage(encoded(rgb, "TIFF")),
        "tiff lzw": HostileImage(encoded(rgb, "TIFF", compression="tiff_lzw")),
        "tiff cmyk": HostileImage(encoded(cmyk, "TIFF")),
        "tiff one bit, group 4": HostileImage(encoded(bits, "TIFF", compression="group4"), quarters=two),
        "avif": HostileImage(encoded(rgb, "AVIF", quality=90), tolerance=10),
    }


def _rotations() -> dict[str, HostileImage]:
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    cases = {}
    for orientation, turn in undo.items():
        stored = picture() if turn is None else picture().transpose(turn)
        data = encoded(stored, "JPEG", quality=92, exif=_exif(orientation))
        cases[f"jpeg, exif orientation {orientation}"] = HostileImage(data, tolerance=6)
    turned = picture().transpose(Image.Transpose.ROTATE_90)
    cases["png, exif orientation 6"] = HostileImage(encoded(turned, "PNG", exif=_exif(6)))
    cases["webp, exif orientation 6"] = HostileImage(encoded(turned, "WEBP", lossless=True, exif=_exif(6)))
    cases["tiff, orientation 6"] = HostileImage(encoded(turned, "TIFF", tiffinfo={ORIENTATION: 6}))
    return cases


def _odd_but_good() -> dict[str, HostileImage]:
    rgb = picture()
    other = Image.new("RGB", SIZE, (9, 9, 9))
    frames = {"save_all": True, "append_images": [other], "duration": 50}
    jpeg, png = encoded(rgb, "JPEG", quality=92), encoded(rgb, "PNG")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {
        "gif animated": HostileImage(encoded(rgb.quantize(4), "GIF", **frames)),
        "webp animated": HostileImage(encoded(rgb, "WEBP", lossless=True, **frames)),
        "png animated": HostileImage(encoded(rgb, "PNG", **frames)),
        "tiff of two pages": HostileImage(encoded(rgb, "TIFF", save_all=True, append_images=[other])),
        "mpo of two photos": HostileImage(encoded(rgb, "MPO", quality=92, **frames), tolerance=6),
        "jpeg with an sRGB profile": HostileImage(encoded(rgb, "JPEG", quality=92, icc_profile=profile), tolerance=6),
        "jpeg with a broken profile": HostileImage(
            encoded(rgb, "JPEG", quality=92, icc_profile=b"\xff" * 400), tolerance=6
        ),
        "jpeg with a broken exif block": HostileImage(
            encoded(rgb, "JPEG", quality=92, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xfe" * 300), tolerance=6
        ),
        "jpeg with orientation 77": HostileImage(encoded(rgb, "JPEG", quality=92, exif=_exif(77)), tolerance=6),
        "jpeg with rubbish after it": HostileImage(jpeg + b"\0" * 500 + b"<script>", tolerance=6),
        "png with rubbish after it": HostileImage(png + b"\xff" * 500),
    }


def _deep_forms() -> dict[str, HostileImage]:
    levels = np.asarray(picture().convert("L"))
    deep = levels.astype(np.uint16) * 257
    signed = levels.astype(np.int32)
    colours = (np.asarray(picture()).astype(np.uint16) * 257).astype(">u2")
    with_nan = (levels / 255).astype(np.float32)
    with_nan[0, 0] = np.nan
    forms = {
        "png grey of 16 bits": encoded(Image.fromarray(deep), "PNG"),
        "tiff grey of 16 bits": encoded(Image.fromarray(deep), "TIFF"),
        "tiff of 32-bit integers, 0 to 255": encoded(Image.fromarray(signed), "TIFF"),
        "tiff of 32-bit integers, 0 to 65535": encoded(Image.fromarray(signed * 257), "TIFF"),
        "tiff of floats, 0 to 1, with a NaN": encoded(Image.fromarray(with_nan), "TIFF"),
        "tiff of floats, 0 to 255": encoded(Image.fromarray(levels.astype(np.float32)), "TIFF"),
    }
    cases = {name: HostileImage(data, quarters=grey(), tolerance=2) for name, data in forms.items()}
    cases["png colour of 16 bits"] = HostileImage(_png(SIZE, 16, 2, _rows(colours)), tolerance=2)
    inverted = encoded(Image.fromarray(65535 - deep), "TIFF")
    cases["tiff grey of 16 bits, white is zero"] = HostileImage(_white_is_zero(inverted), quarters=grey(), tolerance=2)
    return cases


def _damaged() -> dict[str, HostileImage]:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    cut = {}
    for format_ in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        whole = encoded(noise, format_)
        cut[f"{format_.lower()} cut in half"] = HostileImage(whole[: len(whole) // 2], "truncated")
    png = bytearray(encoded(noise, "PNG"))
    png[png.index(b"IDAT") + 9] ^= 0xFF
    jpeg = encoded(picture(), "JPEG")
    return {
        **cut,
        "png with one wrong byte": HostileImage(bytes(png), "damaged"),
        "jpeg, only its first bytes": HostileImage(jpeg[:11], "truncated"),
        "png whose picture is not compressed data": HostileImage(_png(SIZE, 8, 2, _noise(3000)), "damaged"),
        "png with no picture in it": HostileImage(_png(SIZE, 8, 2, None), "damaged"),
        "jpeg marker, then noise": HostileImage(b"\xff\xd8\xff" + _noise(4000) + b"\xff\xd9", "damaged"),
        "gif header, then noise": HostileImage(b"GIF89a" + _noise(2000) + b";", "damaged"),
        "tiff that points at itself": HostileImage(b"II*\0\x08\0\0\0" + b"\0" * 200, "damaged"),
    }


def _refused() -> dict[str, HostileImage]:
    huge = (60_000, 60_000)
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "0" * 4 * 2**20, zip=True)
    jpeg = encoded(picture(), "JPEG", progressive=True)
    scan = jpeg.index(b"\xff\xda")
    return {
        "empty": HostileImage(b"", "empty"),
        "text": HostileImage(b"this is no image at all, whatever its name says", "not_an_image"),
        "noise": HostileImage(_noise(5000), "not_an_image"),
        "html": HostileImage(b"<!DOCTYPE html><html><body>404</body></html>", "unsupported_format"),
        "svg": HostileImage(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_format"),
        "pdf": HostileImage(b"%PDF-1.7\n" + b"\0" * 100, "unsupported_format"),
        "postscript": HostileImage(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported_format"),
        "photoshop": HostileImage(b"8BPS\0\x01" + b"\0" * 100, "unsupported_format"),
        "video": HostileImage(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + _noise(200), "unsupported_format"),
        "png bomb, 60000 x 60000 in its header": HostileImage(
            _png(huge, 8, 0, zlib.compress(b"\0" * 2**20)), "too_many_pixels"
        ),
        "png bomb, 2^31 wide": HostileImage(_png((2**31 - 1, 2**31 - 1), 8, 2, zlib.compress(b"")), "too_many_pixels"),
        "gif bomb, 65535 x 65535": HostileImage(
            b"GIF89a"
            + struct.pack("<HH", 65535, 65535)
            + b"\0\0\0"
            + b","
            + struct.pack("<HHHH", 0, 0, 65535, 65535)
            + b"\0;",
            "too_many_pixels",
        ),
        "bmp bomb": HostileImage(_bmp_header(50_000, 50_000), "too_many_pixels"),
        "png text bomb": HostileImage(encoded(picture(), "PNG", pnginfo=text), "too_complex"),
        "jpeg of 5000 scans": HostileImage(jpeg[:scan] + jpeg[scan:-2] * 5000 + jpeg[-2:], "too_complex"),
        "more bytes than accepted": HostileImage(encoded(picture(), "PNG") + b"\0" * 32 * 2**20, "too_many_bytes"),
        "one pixel": HostileImage(encoded(picture((1, 1)), "PNG"), "too_small"),
        "one row, 20000 wide": HostileImage(encoded(picture((20_000, 1)), "PNG"), "too_small"),
    }


def _noise(count: int) -> bytes:
    return np.random.default_rng(7).integers(1, 256, count, dtype=np.uint8).tobytes()


def _rows(values: NDArray[np.uint16]) -> bytes:
    """PNG's compressed rows, none filtered."""
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))


def _png(size: tuple[int, int], depth: int, colour: int, body: bytes | None) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    body_chunk = b"" if body is None else chunk(b"IDAT", body)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body_chunk + chunk(b"IEND", b"")


def _bmp_header(width: int, height: int) -> bytes:
    return (
        b"BM" + struct.pack("<IHHI", 4096, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    )


def _white_is_zero(tiff: bytes) -> bytes:
    """The same little-endian TIFF with PhotometricInterpretation (tag 262, one SHORT) set to 0."""
    entry = struct.pack("<HHI", 262, 3, 1)
    at = tiff.index(entry) + len(entry)
    return tiff[:at] + b"\0\0" + tiff[at + 2 :]
