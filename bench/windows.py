"""What a large photograph costs in windows: CPU seconds a megapixel and peak memory of `mirl restore`, against 14cb627.

    python bench/windows.py [--rounds 3] [--threads 1] [--ticket small] [--json results/windows.json]

The ticket of the package restores a photograph of 12 megapixels in windows, and at commit 14cb627, with the same masks and
weights, one of 1 megapixel as a whole and the large one in its automatic tiles. Each command is a process of its own, start
included; the commands take turns, and the medians count. Needs the project's git repository and a native engine whose
sources are those of that commit; run it on a quiet machine.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from mirl.data.bundled import training_photos
from mirl.evaluate.speed import machine
from mirl.files import write_json

BEFORE = "14cb627"
ROOT = Path(__file__).parents[1]
ENGINE = Path("src/mirl/engine")
SIZES = {"1 megapixel": (1000, 1000), "12 megapixels": (4000, 3000)}
MOST_RATIO, MOST_MB = 1.4, 600.0


@dataclass(frozen=True)
class Case:
    """A command that is measured: which code restores which photograph."""

    name: str
    before: bool
    photo: str


@dataclass(frozen=True)
class Row:
    """Medians of a case and its single runs, in CPU seconds."""

    name: str
    megapixels: float
    cpu_seconds: float
    cpu_seconds_a_megapixel: float
    peak_mb: float
    runs: list[float]


CASES = (
    Case("14cb627, whole", True, "1 megapixel"),
    Case("14cb627, automatic tiles", True, "12 megapixels"),
    Case("windows", False, "1 megapixel"),
    Case("windows", False, "12 megapixels"),
)


def photograph(width: int, height: int) -> Image.Image:
    """Return bundled photographs side by side."""
    mosaic = Image.new("RGB", (width, height))
    photos = [Image.open(path).convert("RGB").resize((1000, 750)) for path in training_photos()]
    for number, (top, left) in enumerate((t, x) for t in range(0, height, 750) for x in range(0, width, 1000)):
        mosaic.paste(photos[number % len(photos)], (left, top))
    return mosaic


def check_out(folder: Path) -> Path:
    """Put the sources of the commit into the folder, with the engine built here; return where Python finds them."""
    changed = subprocess.run(["git", "diff", "--quiet", BEFORE, "--", str(ENGINE / "native")], cwd=ROOT, check=False)
    if changed.returncode:
        raise SystemExit(f"the native engine's sources are not those of {BEFORE}: build that commit's to compare")
    archive = subprocess.run(["git", "archive", BEFORE, "src"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    for library in (ROOT / ENGINE).glob("_native*.so"):
        shutil.copy(library, folder / ENGINE)
    return folder / "src"


def run(code: Path, source: Path, out: Path, ticket: str, threads: int) -> tuple[float, float]:
    """Restore once and return CPU seconds and peak memory in MB of the process."""
    words = [sys.executable, "-m", "mirl", "restore", str(source), "-o", str(out), "--ticket", ticket,
             "--threads", str(threads)]  # fmt: skip
    process = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(code)}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the command ended with {process.returncode}: {' '.join(words)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticket", default="small")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("results/windows.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before, photos = check_out(folder), {}
        for label, size in SIZES.items():
            photos[label] = folder / f"{size[0]}x{size[1]}.jpg"
            photograph(*size).save(photos[label], quality=90)
        found: dict[Case, list[tuple[float, float]]] = {case: [] for case in CASES}
        for number in range(options.rounds):
            for case in CASES:
                code = before if case.before else ROOT / "src"
                found[case].append(run(code, photos[case.photo], folder / "out.jpg", options.ticket, options.threads))
                print(f"round {number + 1}: {case.name}, {case.photo}: {found[case][-1][0]:.1f} CPU s", flush=True)
    rows = []
    for case, runs in found.items():
        megapixels = SIZES[case.photo][0] * SIZES[case.photo][1] / 1e6
        seconds = statistics.median(each for each, _ in runs)
        peak = max(each for _, each in runs)
        label = f"{case.name}, {case.photo}"
        rows.append(Row(label, megapixels, seconds, seconds / megapixels, peak, [each for each, _ in runs]))
        print(f"{label:>40}: {seconds / megapixels:.2f} CPU s a megapixel, {peak:.0f} MB")
    ratio = rows[-1].cpu_seconds_a_megapixel / rows[0].cpu_seconds_a_megapixel
    print(
        f"12 megapixels in windows against 1 megapixel whole: {ratio:.2f} (at most {MOST_RATIO}), {rows[-1].peak_mb:.0f} MB"
    )
    result = {
        "command": f"python bench/windows.py --rounds {options.rounds} --threads {options.threads}",
        "before": BEFORE, "ticket": options.ticket, "threads": options.threads, "rounds": options.rounds,
        "ratio": ratio, "most_ratio": MOST_RATIO, "peak_mb": rows[-1].peak_mb, "most_peak_mb": MOST_MB,
        "rows": [asdict(row) for row in rows], "machine": machine(),
    }  # fmt: skip
    write_json(options.json, result)


if __name__ == "__main__":
    main()
