"""How large an image may be: the same for what the catalogue takes and for what the ML backend looks at."""

from __future__ import annotations

from typing import Final

# Below Pillow's own warning at 89 million: a photo of 80 megapixels takes 240 MB once decoded.
MAX_PIXELS: Final = 80_000_000
MAX_IMAGE_BYTES: Final = 64 * 1024 * 1024
