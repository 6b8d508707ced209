"""Make the project's own pictures of `mirl evaluate --suite people`: graphics by Chromium, tone from photographs and pages.

    python bench/people_pictures.py [--out src/mirl/data/people]

Pages are in `bench/people_pages`: interfaces, drawings, line art, logos, charts, in fonts that no training uses (Liberation,
Noto, URW's; training writes in DejaVu). Needs Chromium and, from Debian, fonts-liberation, fonts-noto-core and
fonts-urw-base35. Photographs are the four that nothing is trained on, `src/mirl/data/photos/held_out`. The pictures are in
the repository: this is for changing them.
"""

import argparse
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from mirl.data.bundled import held_out_photos, people_pictures
from mirl.files import make_folder

PAGES = Path(__file__).parent / "people_pages"
SIZE = {"width": 480, "height": 360}
FONTS = (
    "Liberation Sans", "Liberation Sans Narrow", "Liberation Mono", "Noto Sans", "C059", "P052", "Z003", "Nimbus Sans",
    "Nimbus Sans Narrow", "Nimbus Roman", "Nimbus Mono PS", "URW Gothic", "URW Bookman",
)  # fmt: skip
QUIET = ("--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync", "--no-sandbox")


@dataclass(frozen=True)
class Tone:
    """A photograph in another light: part of it, in linear light, then what the print holds.

    `crop` is left, top, right, bottom as shares. `exposure` multiplies linear light (x^2.2), `shoulder` bends it towards
    white (0: not at all), `colour` is the share of colour that is kept, `tint` multiplies red, green and blue, `black` and
    `white` are where the values 0 and 1 end, `lamp` adds a pool of light in the middle (1: its full light there).
    """

    name: str
    photo: str
    crop: tuple[float, float, float, float] = (0, 0, 1, 1)
    exposure: float = 1.0
    shoulder: float = 0.0
    colour: float = 1.0
    tint: tuple[float, float, float] = (1, 1, 1)
    black: float = 0.0
    white: float = 1.0
    lamp: float = 0.0


TONES = (
    Tone("night_ruin", "colosseum", exposure=0.06, colour=0.7, tint=(0.8, 0.9, 1.15)),
    Tone("night_road", "herzog", exposure=0.035, colour=0.6, tint=(0.8, 0.95, 1.2)),
    Tone("dusk_hills", "aitzgorri", exposure=0.12, colour=0.8, tint=(1.1, 0.95, 0.95)),
    Tone("dark_room_otter", "otters", (0.2, 0.2, 1, 1), exposure=0.05, tint=(1.25, 1.0, 0.7), lamp=0.5),
    Tone("dark_room_sign", "herzog", (0, 0.25, 0.6, 0.85), exposure=0.04, tint=(1.2, 1.0, 0.75), lamp=0.6),
    Tone("overcast_ruin", "colosseum", (0.3, 0, 1, 1), colour=0.18, exposure=0.9),
    Tone("overcast_hills", "aitzgorri", (0, 0, 1, 0.7), colour=0.35, exposure=0.7),
    Tone("snow_light_hills", "aitzgorri", shoulder=1.4, exposure=1.2, colour=0.35, tint=(0.98, 1.0, 1.04)),
    Tone("white_desert", "herzog", (0, 0.4, 1, 1), shoulder=1.8, exposure=1.2, colour=0.3),
    Tone("faded_print_otter", "otters", black=0.14, white=0.8, colour=0.7),
    Tone("faded_print_hills", "aitzgorri", black=0.1, white=0.72, colour=0.8, tint=(1.05, 1.0, 0.93)),
    Tone("pastel_road", "herzog", (0, 0, 1, 0.7), shoulder=0.7, black=0.18, white=0.96, colour=0.6),
)


def printed(tone: Tone, photo: Image.Image) -> Image.Image:
    """Return the picture, 400 pixels wide at most: shrunk by area, which takes the coding noise of the photograph away."""
    width, height = photo.size
    box = tuple(round(share * side) for share, side in zip(tone.crop, (width, height, width, height), strict=True))
    part = photo.crop(box)
    factor = min(400 / part.width, 0.6)
    small = part.resize((round(part.width * factor), round(part.height * factor)), Image.Resampling.BOX)
    light = (np.asarray(small, np.float64) / 255) ** 2.2 * tone.exposure
    grey = light.mean(axis=2, keepdims=True)
    light = (grey + tone.colour * (light - grey)) * np.array(tone.tint)
    if tone.lamp:
        y, x = np.mgrid[: light.shape[0], : light.shape[1]]
        far = np.hypot(x / light.shape[1] - 0.5, y / light.shape[0] - 0.5)
        light *= (1 - tone.lamp + 4 * tone.lamp * np.exp(-((far / 0.28) ** 2)))[..., None]
    if tone.shoulder:
        light = (1 - np.exp(-(1 + tone.shoulder) * light)) / (1 - np.exp(-(1 + tone.shoulder)))
    value = tone.black + (tone.white - tone.black) * np.clip(light, 0, 1) ** (1 / 2.2)
    return Image.fromarray(np.rint(value * 255).astype(np.uint8))


def render(out: Path) -> None:
    """Render every page to a PNG of its name; light and dark are graphics."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise SystemExit("needs Chromium: apt-get install chromium")
    families = subprocess.run(["fc-list", ":", "family"], capture_output=True, text=True, check=True).stdout
    if missing := [font for font in FONTS if font not in families]:
        raise SystemExit(f"fonts are missing: {', '.join(missing)}; the docstring names their packages")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        page = browser.new_page(viewport=SIZE, device_scale_factor=1)  # type: ignore[arg-type]
        for source in sorted(PAGES.glob("*/*.html")):
            group = source.parent.name
            folder = make_folder(out / (group if group == "tone" else f"graphics/{group}"))
            page.goto(source.as_uri())
            picture = folder / f"{source.stem}.png"
            page.screenshot(path=picture)
            with Image.open(picture) as shot:
                shot.convert("RGB").save(picture, optimize=True)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=people_pictures())
    options = parser.parse_args()
    render(options.out)
    photos = held_out_photos()
    for tone in TONES:
        (source,) = (path for path in photos if tone.photo in path.stem)
        with Image.open(source) as photo:
            printed(tone, photo).save(make_folder(options.out / "tone") / f"{tone.name}.jpg", quality=92, subsampling=0)
    files = sorted(options.out.rglob("*.[pj][np]g"))
    print(f"{len(files)} pictures, {sum(path.stat().st_size for path in files) / 1e6:.2f} MB in {options.out}")


if __name__ == "__main__":
    main()
