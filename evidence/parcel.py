"""One job of a snapshot: its records, and the weights of the training that runs, in half precision; moments start anew.

A parcel is a tar.xz of the small files of the run folder and of `half.safetensors`: the weights (their moving average where
there is one), and the rewind point where updates led to it. Unpacked, it is a run folder that `mirl search` and
`mirl control` go on with. A level that has ended leaves its records; its weights are there only where they are the latest.
"""

import io
import json
import lzma
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from halves import packed, unpacked
from jobs import Job
from mirl.files import write_bytes
from mirl.lottery.run import NOTES, Arrays, RunFolder, TrainingFolder, hash_state, load_arrays, save_arrays
from standing import Training, trainings

HALF = "half.safetensors"
SMALL = ("mask.safetensors", "rewound.json", *sorted(NOTES))


@dataclass(frozen=True)
class Source:
    """What a parcel is made of: small files by their place in the run folder, tensors in three groups, and their story."""

    files: dict[str, bytes]
    groups: dict[str, Arrays]
    story: dict[str, Any]


def collect(job: Job, runs: Path, weights: bool = True) -> Source:
    """Read what a parcel of a job needs; without `weights` its records alone."""
    run = RunFolder(job.folder(runs))
    recipe = run.recipe()
    files = {} if job.control else {"recipe.json": (run.path / "recipe.json").read_bytes()}
    parts = trainings(job, run, recipe, 1.0)
    for part in parts:
        files |= records(run, part.folder)
    groups: dict[str, Arrays] = {}
    story: dict[str, Any] = {}
    if weights and not job.control and recipe.rewind_step and run.started:
        groups["start"] = run.load_start()
    latest = next((part for part in reversed(parts) if part.folder.checkpoint.exists()), None)
    if weights and latest:
        groups["running"], story = from_checkpoint(run, latest)
    elif weights and (ended := [part for part in parts if part.folder.done]):
        groups["ended"] = load_arrays(ended[-1].folder.weights)[0]
        story = {"folder": str(ended[-1].folder.path.relative_to(run.path))}
    return Source(files, groups, story)


def records(run: RunFolder, folder: TrainingFolder) -> dict[str, bytes]:
    """The small files of a training; of its metrics the validations alone."""
    found = {name: folder.path / name for name in (*SMALL, folder.marker)}
    files = {str(file.relative_to(run.path)): file.read_bytes() for file in found.values() if file.exists()}
    if folder.metrics.exists():
        lines = [line for line in folder.metrics.read_bytes().splitlines(keepends=True) if b'"validation"' in line]
        files[str(folder.metrics.relative_to(run.path))] = b"".join(lines)
    return files


def from_checkpoint(run: RunFolder, part: Training) -> tuple[Arrays, dict[str, Any]]:
    """Weights of a checkpoint, and what else its file held: small values as they are, of all others the form."""
    arrays, metadata = load_arrays(part.folder.checkpoint)
    weights = {key.partition("/")[2]: value for key, value in arrays.items() if key.startswith("weight/")}
    averages = {key.partition("/")[2]: value for key, value in arrays.items() if key.startswith("average/")}
    rest = {key: value for key, value in arrays.items() if not key.startswith(("weight/", "average/"))}
    exact = {key: value.tolist() for key, value in rest.items() if "/" not in key}
    anew = {key: [value.dtype.str, list(value.shape)] for key, value in rest.items() if "/" in key}
    types = {key: value.dtype.str for key, value in rest.items() if key in exact}
    story = {
        "folder": str(part.folder.path.relative_to(run.path)), "average": bool(averages), "exact": exact, "types": types,
        "anew": anew, "metadata": {key: value for key, value in metadata.items() if key != "hashes"},
    }  # fmt: skip
    return averages or weights, story


def pack(source: Source, bits: int) -> bytes:
    """Make a parcel with so many bits of mantissa."""
    arrays, metadata = {}, {"story": json.dumps(source.story)}
    for group, tensors in source.groups.items():
        parts, metadata[f"shapes of {group}"] = packed(tensors, bits)
        arrays |= {f"{group}/{name}": value for name, value in parts.items()}
    files = source.files | {HALF: safetensors.numpy.save(arrays, metadata)}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return lzma.compress(raw.getvalue())


def unpack(content: bytes, run: RunFolder) -> None:
    """Fill a run folder from a parcel."""
    run.path.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(content))) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member)
            place = (run.path / member.name).resolve()
            if file is None or not place.is_relative_to(run.path.resolve()):
                raise ValueError(f"a parcel holds files of its run alone, found {member.name!r}")
            place.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(place, file.read())
    arrays, metadata = load_arrays(run.path / HALF)
    (run.path / HALF).unlink()
    story = json.loads(metadata["story"])
    for group in {name.partition("/")[0] for name in arrays}:
        part = {name.partition("/")[2]: value for name, value in arrays.items() if name.startswith(f"{group}/")}
        tensors = unpacked(part, metadata[f"shapes of {group}"])
        if group == "start":
            run.save_start(tensors)
        elif group == "ended":
            save_arrays(TrainingFolder(run.path / story["folder"]).weights, tensors)
        else:
            save_checkpoint(TrainingFolder(run.path / story["folder"]).checkpoint, tensors, story)


def save_checkpoint(path: Path, weights: Arrays, story: dict[str, Any]) -> None:
    """Write the checkpoint of a training that goes on from these weights; moments and their counts are zero again."""
    arrays: Arrays = {f"weight/{name}": value for name, value in weights.items()}
    if story["average"]:
        arrays |= {f"average/{name}": value for name, value in weights.items()}
    arrays |= {key: np.array(value, story["types"][key]) for key, value in story["exact"].items()}
    arrays |= {key: np.zeros(shape, kind) for key, (kind, shape) in story["anew"].items()}
    save_arrays(path, arrays, story["metadata"] | {"hashes": json.dumps(hash_state(arrays))})
