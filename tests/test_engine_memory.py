"""What restoring costs in memory, measured on a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from conftest import make_ticket
from mirl.engine.engine import restore_pixels
from mirl.engine.options import Options
from mirl.engine.torch import TorchBackend
from mirl.evaluate.metrics import psnr
from mirl.recipe import tiny
from mirl.ticket import write_ticket

MEASURED = """
import sys
from mirl.cli import main
code = main(sys.argv[1:])
from mirl.evaluate.worker import memory_mb  # not getrusage, which counts what the process that started this one held
print(round(memory_mb()[1] * 1e6), file=sys.stderr)
sys.exit(code)
"""


def test_twelve_megapixels_are_restored_in_under_two_gigabytes(tmp_path: Path):
    write_ticket(make_ticket(), tmp_path / "t.mirl")
    Image.effect_noise((4000, 3000), 80).convert("RGB").save(tmp_path / "large.jpg", quality=80)
    words = ["restore", "large.jpg", "-o", "out", "--ticket", "t.mirl"]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, *words], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stderr.split()[-1]) < 2e9
    with Image.open(tmp_path / "out" / "large.jpg") as restored:
        assert restored.size == (4000, 3000)


def test_tiles_differ_far_less_from_the_whole_image_than_the_network_changes_it():
    """The figure on a photo with a trained ticket is in results/tiles.json; an untrained network is harsher."""
    backend, rng = TorchBackend(make_ticket(tiny().network, keep=1.0)), np.random.default_rng(0)
    slope = np.linspace(0.1, 0.9, 384, dtype=np.float32)[None, :, None]
    pixels = np.clip(slope + 0.1 * rng.standard_normal((256, 384, 3)).astype(np.float32), 0, 1)
    whole = restore_pixels(backend, pixels, Options(tile=0))
    tiled = restore_pixels(backend, pixels, Options(tile=192))
    assert psnr(tiled, whole) > max(40, psnr(whole, pixels) + 8)
