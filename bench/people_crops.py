"""Make the before-and-after pictures of the results page: ten cases as people have them, the worst among them.

    python bench/people_crops.py [--ticket small] [--out docs/people] [--json results/people_crops.json]

Photographs are those that nothing is trained on (`src/mirl/data/photos/held_out`) and the project's own pictures
(`src/mirl/data/people`), all of which may be shown. What is degraded here is degraded as `mirl data synth` does, from a
fixed seed. Each picture shows a crop of the input, of what `mirl.restore` makes of it by default, and of the truth.
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import mirl
from mirl.data.bundled import held_out_photos, people_pictures
from mirl.degrade import stored
from mirl.degrade.codec import code_jpeg
from mirl.degrade.noise import add_gaussian_noise
from mirl.evaluate.metrics import psnr
from mirl.files import make_folder, write_bytes, write_json
from mirl.image import quantise, read_pixels
from mirl.image.pixels import join

CROP, ZOOM, GAP = 128, 2, 6  # pixels of a crop, how much it is enlarged, white between two
Degrade = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A picture by the beginning of its name, what happens to it (None: nothing, it shall stay), and where the crop lies."""

    name: str
    picture: str
    degrade: Degrade | None
    at: tuple[float, float]  # of the middle of the crop, shares of height and width
    grey: bool = False


def noisy_then_coded(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return through_jpeg(add_gaussian_noise(clean, rng, 25.0), 95)


def coded_at_20(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return through_jpeg(clean, 20)


def through_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return np.asarray(code_jpeg(picture(image), quality), np.float32) / 255


def picture(image: np.ndarray) -> Image.Image:
    return join(image, None, False, 8)


CASES = (
    Case("camera noise", "budgie_oakland-zoo-otters", stored.camera, (0.45, 0.5)),
    Case("noise of sigma 25, then JPEG 95 (4:2:0)", "budgie_roman-colosseum", noisy_then_coded, (0.5, 0.5)),
    Case("noise in grey", "budgie_oakland-zoo-otters", stored.grey_noise, (0.45, 0.5), grey=True),
    Case("JPEG 20", "lomiri_aitzgorri", coded_at_20, (0.5, 0.5)),
    Case("rain as photographs show it", "budgie_roman-colosseum", stored.rain, (0.4, 0.4)),
    Case("haze", "lomiri_aitzgorri", stored.haze, (0.4, 0.5)),
    Case("interface (nothing to do)", "dashboard", None, (0.4, 0.4)),
    Case("line art (nothing to do)", "lineart", None, (0.5, 0.5)),
    Case("night (nothing to do)", "night_road", None, (0.5, 0.5)),
    Case("letter (nothing to do)", "letter", None, (0.4, 0.4)),
)


def pictures() -> dict[str, Path]:
    own = [path for path in sorted(people_pictures().rglob("*")) if path.suffix in (".png", ".jpg")]
    return {path.stem: path for path in [*held_out_photos(), *own]}


def strip(images: list[np.ndarray], at: tuple[float, float]) -> Image.Image:
    height, width = images[0].shape[:2]
    side = min(CROP, height, width)
    top = min(max(int(at[0] * height) - side // 2, 0), height - side)
    left = min(max(int(at[1] * width) - side // 2, 0), width - side)
    wide = side * ZOOM
    sheet = Image.new("RGB", (len(images) * (wide + GAP) - GAP, wide), "white")
    for index, image in enumerate(images):
        crop = picture(image[top : top + side, left : left + side])
        sheet.paste(crop.resize((wide, wide), Image.Resampling.NEAREST), (index * (wide + GAP), 0))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticket", default="small")
    parser.add_argument("--out", type=Path, default=Path("docs/people"))
    parser.add_argument("--json", type=Path, default=Path("results/people_crops.json"))
    options = parser.parse_args()
    engine, files, rows = mirl.load(options.ticket), pictures(), []
    make_folder(options.out)
    for number, case in enumerate(CASES):
        file = next(path for stem, path in files.items() if stem.startswith(case.picture))
        clean = read_pixels(file)
        if case.grey:
            clean = np.repeat(np.asarray(picture(clean).convert("L"), np.float32)[..., None] / 255, 3, 2)
        rng = np.random.default_rng(number)
        given = clean if case.degrade is None else quantise(case.degrade(clean, rng).astype(np.float32))
        restored = np.asarray(mirl.restore(given, engine))
        shown = [given, restored] + ([clean] if case.degrade is not None else [])
        buffer = io.BytesIO()
        strip(shown, case.at).save(buffer, "JPEG", quality=85, subsampling=0)
        name = f"{number + 1:02d}.jpg"
        write_bytes(options.out / name, buffer.getvalue())
        difference = quantise(restored) - given
        rows.append(
            {
                "case": case.name, "picture": file.stem, "file": f"{options.out.name}/{name}",
                "truth": case.degrade is not None,
                "input_psnr": None if case.degrade is None else min(60.0, psnr(given, clean)),
                "psnr": min(60.0, psnr(quantise(restored), clean)),
                "largest_change": float(np.abs(difference).max() * 255),
            }
        )  # fmt: skip
        print(f"{case.name:42} {rows[-1]['input_psnr'] or 60:6.2f} -> {rows[-1]['psnr']:6.2f} dB  {file.stem}")
    command = f"python bench/people_crops.py --ticket {options.ticket}"
    write_json(options.json, {"command": command, "ticket": options.ticket, "cases": rows})


if __name__ == "__main__":
    main()
