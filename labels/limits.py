"""Which image files are read, and how large one may be: the same for the catalogue and for the ML backend."""

from __future__ import annotations

from typing import Final

# Pillow knows others that run programs or read further files.
IMAGE_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
# Some cameras put a second picture behind the one that every program shows.
JPEG_FORMATS: Final = ("JPEG", "MPO")
# Below Pillow's own warning at 89 million: a photo of 80 megapixels takes 240 MB once decoded.
MAX_PIXELS: Final = 80_000_000
MAX_IMAGE_BYTES: Final = 64 * 1024 * 1024
