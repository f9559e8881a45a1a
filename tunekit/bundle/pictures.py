"""Reads a picture from a file, for training and for serving alike. Pillow is imported when the first file is read."""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from tunekit.errors import DataError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""What Pillow calls pictures of so many channels."""

BYTES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
"""What it calls pictures with at most eight bits a channel."""

ORIENTATION = 0x0112
"""The number in EXIF of what a camera says of how it was held."""

TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""What Pillow calls the turn that brings a picture upright, by its orientation (EXIF 2.32, 4.6.4); 1 is upright."""


def read_picture(
    path: str | os.PathLike[str], channels: int, size: tuple[int, int] | None, place: str = ""
) -> npt.NDArray[np.uint8]:
    """Read a picture, as gray or colours, turn it upright and bring it to a size.

    Phones store what the sensor saw, and beside it, in EXIF, how they were held: viewers turn pictures by that.

    Args:
        path: of a file that Pillow can read, such as PNG or JPEG.
        channels: 1 for shades of gray, 3 for red, green and blue, 4 with opacity.
        size: (height, width), or None for its own.
        place: of the path in the data, to begin a message with.

    Returns:
        (height, width, channels).

    Raises:
        DataError: it can't be read, or Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f"{place}{str(path)!r} is the name of a file, and Pillow, which reads pictures, can't be imported "
            f"({error}); expected it: pip install pillow. Or give pictures as arrays"
        ) from error
    try:
        with Image.open(path) as opened:
            if opened.mode not in BYTES:  # Pillow would clip them: nearly all of a picture would be white
                raise ValueError(
                    f"its values are {opened.mode!r} in Pillow's words, not bytes; save it with 8 bits a channel, or "
                    "give its values as arrays"
                )
            opened.load()  # what is wrong with its pixels is told, what is wrong with its EXIF passed over
            picture = opened.convert(MODES[channels])
            turn = _turn(opened)
            if turn is not None:
                picture = picture.transpose(Image.Transpose[turn])
            if size is not None and size != (picture.height, picture.width):
                picture = picture.resize((size[1], size[0]))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{place}{str(path)!r} can't be read as a picture: {error}; mend it, or move it away"
        ) from error
    return np.asarray(picture, dtype=np.uint8).reshape(picture.height, picture.width, channels)


def _turn(picture: Any) -> str | None:
    """What brings a picture upright; None if it is so, or if what its EXIF says can't be read.

    Not by Pillow's `exif_transpose`, which writes the whole EXIF anew and fails where a part of it is broken.
    """
    try:
        return TURNS.get(picture.getexif().get(ORIENTATION))
    except (OSError, ValueError, SyntaxError, struct.error):
        return None


def picture_cell(
    path: str | os.PathLike[str], shape: tuple[int, ...], dtype: str, name: str, row: int
) -> npt.NDArray[np.uint8]:
    """The cell of an array column that is the name of a picture's file: (height, width, channels), as `shape` says.

    Raises:
        DataError: it can't be read, or cells of the column are no pictures of bytes.
    """
    place = f"column {name!r}, row {row}: "
    if len(shape) != 3 or shape[2] not in MODES or dtype != "uint8":
        raise DataError(
            f"{place}received the text {str(path)!r}, expected an array of shape {shape} and type {dtype}; only "
            "pictures of bytes (height, width, 1, 3 or 4 channels) can be read from a file"
        )
    return read_picture(path, shape[2], (shape[0], shape[1]), place)
