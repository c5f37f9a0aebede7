"""Writes pixels.json: what Pillow 13 makes of the images beside it (size and FNV-1a of its RGB bytes), or that it refuses them."""

import json
import pathlib

from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
KINDS = {".png", ".jpg", ".tif", ".gif", ".bmp", ".webp"}


def fnv(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & (2**64 - 1)
    return f"{value:016x}"


def pages(path: pathlib.Path) -> list | str:
    made = []
    try:
        count = getattr(Image.open(path), "n_frames", 1) if path.suffix == ".tif" else 1
        for number in range(count):
            image = Image.open(path)
            image.seek(number)
            page = ImageOps.exif_transpose(image).convert("RGB")
            made.append([page.width, page.height, fnv(page.tobytes())])
    except OSError:
        return "error"
    return made


if __name__ == "__main__":
    listed = json.loads((HERE / "pixels.json").read_text())
    told = {name: pages(HERE / name) for name in listed}
    (HERE / "pixels.json").write_text(json.dumps(told, indent=0, sort_keys=True))
