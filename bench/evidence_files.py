"""What `bench/evidence.py` keeps in the folder of results: packed weights, records, pilots; and where everything lies."""

import hashlib
import io
import json
import lzma
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mirl.data.pairs import fingerprint
from mirl.errors import MirlError
from mirl.evaluate.speed import machine
from mirl.files import make_folder, sha256, write_json
from mirl.layers import attention_macs_per_pixel, macs_per_pixel, parameter_count
from mirl.lottery.prune import plan_levels
from mirl.lottery.run import RunFolder
from mirl.recipe import Recipe, recipe_from_dict
from pilots import PILOTS

DAMAGED = (EOFError, OSError, tarfile.TarError, lzma.LZMAError)  # what a broken archive raises


@dataclass(frozen=True)
class Places:
    """Where data, tests, runs and results lie; `tests` may be None, then nothing is scored."""

    data: Path
    tests: Path | None
    runs: Path
    results: Path
    device: str


def holds(run: Path, recipe: Recipe) -> bool:
    """Whether a folder holds a run of this recipe, or its records."""
    return (run / "recipe.json").exists() and RunFolder(run).recipe() == recipe


def is_published(places: Places, name: str, recipe: Recipe) -> bool:
    """Whether the results show a run or a pilot of this recipe as ended."""
    if name.startswith("pilots/"):
        return any(_is_pilot(row, name.removeprefix("pilots/"), recipe) for row in published_pilots(places))
    last, run = len(plan_levels(recipe.network, recipe.prune)) - 1, places.results / "runs" / name
    return holds(run, recipe) and (run / f"level-{last:02d}" / "level.json").exists()


def require_own_records(places: Places, name: str, recipe: Recipe) -> None:
    """Raise MirlError where the results hold a run of this name and of another recipe: the two must not be mixed."""
    records = places.results / "runs" / name
    if records.exists() and not holds(records, recipe):
        raise MirlError(
            f"{records} holds the records of another recipe; move them away with its scores, times, crops and weights, or "
            "name other --results"
        )


def _is_pilot(row: dict[str, Any], name: str, recipe: Recipe) -> bool:
    return bool(row["pilot"] == name) and recipe_from_dict(row["recipe"]) == recipe


def published_pilots(places: Places) -> list[dict[str, Any]]:
    file = places.results / "pilots.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    return rows


def pack(files: list[Path], root: Path) -> bytes:
    """Return files as a .tar.xz with their names below `root`; equal files give equal bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz", preset=9) as archive:
        for path in files:
            entry = tarfile.TarInfo(str(path.relative_to(root)))
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(entry, file)
    return content.getvalue()


def packs(archive: Path, files: list[Path], root: Path) -> bool:
    """Whether an archive holds these files as they are now, whatever their run was called."""
    if not archive.exists():
        return False
    about = archive.stat()
    held = _held(archive, about.st_mtime_ns, about.st_size)
    return held == {str(path.relative_to(root)).partition("/")[2]: sha256(path) for path in files}


@cache
def _held(archive: Path, mtime_ns: int, size: int) -> dict[str, str]:
    """SHA-256 of the files in an archive, by name below their run; nothing of one that is damaged."""
    held = {}
    try:
        with tarfile.open(archive) as opened:
            for entry in opened:
                content = opened.extractfile(entry)
                name = entry.name.partition("/")[2]
                held[name] = hashlib.sha256(content.read() if content else b"").hexdigest()
    except DAMAGED:
        return {}
    return held


def unpack(places: Places) -> None:
    """Put back the packed runs that `runs` does not have, so that they go on."""
    for packed in sorted((places.results / "weights").glob("*")):
        if (places.runs / packed.name).exists():
            continue
        print(f"unpacking {packed}", file=sys.stderr, flush=True)
        make_folder(places.runs)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=places.runs) as folder:
            run = make_folder(Path(folder) / packed.name)
            for file in sorted(packed.glob("*.tar.xz")):
                try:
                    with tarfile.open(file) as archive:
                        archive.extractall(run, filter=_below_the_run)
                except DAMAGED as error:
                    raise MirlError(f"{file} is damaged ({error}); take it again from the repository") from error
            run.rename(places.runs / packed.name)


def _below_the_run(entry: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """An entry without the name of its run, which may have another by now."""
    return tarfile.data_filter(entry.replace(name=entry.name.partition("/")[2], deep=False), folder)


def publish(places: Places, recipes: Mapping[str, Recipe]) -> None:
    """Copy the records of the runs of these recipes (JSON alone, no weights) and write the table of pilots."""
    for name, recipe in recipes.items():
        if not holds(places.runs / name, recipe):
            continue
        require_own_records(places, name, recipe)
        for source in sorted((places.runs / name).rglob("*.json*")):
            if source.name in ("recipe.json", "level.json", "control.json", "metrics.jsonl"):
                target = places.results / "runs" / source.relative_to(places.runs)
                make_folder(target.parent)
                shutil.copyfile(source, target)
    known = {row["pilot"]: row for row in published_pilots(places)}
    rows = [pilot_row(name, RunFolder(places.runs / "pilots" / name)) or known.get(name) for name in PILOTS]
    found = [row for row in rows if row]
    if found and found != list(known.values()):
        make_folder(places.results)
        write_json(places.results / "pilots.json", {
            "command": "make evidence", "data": fingerprint(places.data), "machine": machine(), "rows": found,
        })  # fmt: skip


def pilot_row(name: str, run: RunFolder) -> dict[str, Any]:
    """One line of the table: what was tried, what its last training cost and reached on the validation images."""
    recipe = PILOTS[name]
    if not run.ticket.exists() or not holds(run.path, recipe):
        return {}
    record = run.finished_levels[-1].record()
    scores = {task: value["psnr"] for task, value in record["validation"].items()}
    return {
        "pilot": name, "parameters": parameter_count(recipe.network), "density": record["density"],
        "macs_per_pixel": macs_per_pixel(recipe.network),
        "attention_macs_per_pixel": attention_macs_per_pixel(recipe.network), "steps": record["steps"],
        "seconds": record["seconds"], "seconds_per_step": record["seconds"] / record["steps"], "validation_psnr": scores,
        "mean_psnr": sum(scores.values()) / len(scores), "recipe": record["recipe"],
    }  # fmt: skip
