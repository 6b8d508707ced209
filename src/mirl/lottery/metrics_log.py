"""metrics.jsonl and TensorBoard: the numbers of a training while it runs. No clock reaches metrics.jsonl."""

import json
from typing import Any

from mirl.errors import MirlError
from mirl.files import read_json, write_bytes, write_json
from mirl.lottery.run import TrainingFolder


def append(folder: TrainingFolder, line: dict[str, Any], writer: Any) -> None:
    """Add one line to the metrics, and to TensorBoard when `writer` is open."""
    with folder.metrics.open("a") as file:
        file.write(json.dumps(line) + "\n")
    if writer is not None:
        flat = {k: v for k, v in line.items() if k != "step" and not isinstance(v, dict)}
        for group in (g for g in ("losses", "validation") if g in line):
            flat |= {f"{group}/{task}": value for task, value in line[group].items()}
        for name, value in flat.items():
            writer.add_scalar(name, value, line["step"])


def trim(folder: TrainingFolder, step: int) -> None:
    """Drop lines written after the checkpoint that the training goes on from."""
    if not folder.metrics.exists():
        return
    kept = []
    for text in folder.metrics.read_text().splitlines():
        try:
            if json.loads(text)["step"] <= step and step:
                kept.append(text)
        except (ValueError, KeyError):
            continue  # the half line of a killed process
    write_bytes(folder.metrics, "".join(text + "\n" for text in kept).encode())


def note_kernels(folder: TrainingFolder, step: int, name: str) -> None:
    """Say which kernels train from update `step` on, unless they trained until then; drop what was said of later ones."""
    said = {}
    if step and folder.kernels.exists():
        said = read_json(folder.kernels, "the kernels of a training", dict)
    kept = {update: kernels for update, kernels in said.items() if int(update) < step}
    if list(kept.values())[-1:] != [name]:
        kept[str(step)] = name
    write_json(folder.kernels, kept)


def event_writer(log_dir: str | None, folder: TrainingFolder) -> Any:
    """Open TensorBoard's writer, or return None when no events are wanted. Raises MirlError when it is not installed."""
    if log_dir is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MirlError("TensorBoard is not installed; pip install 'mirl[tensorboard]'") from error
    return SummaryWriter(f"{log_dir}/{folder.path.name}")
