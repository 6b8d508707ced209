"""Several processes under torchrun, as a user starts them: one run folder, the masks and weights of a single process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import mini_data
from mirl.errors import MirlError
from mirl.lottery.run import RunFolder, load_arrays, load_masks
from mirl.lottery.setting import make_setting, silent
from mirl.lottery.verify import verify
from mirl.recipe import Recipe

SLURM = Path(__file__).parents[1] / "examples" / "slurm" / "search.sh"
TORCHRUN = Path(sys.executable).with_name("torchrun")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
SEARCH = ["search", "--recipe", "tiny", "--steps", "3", "--batch", "6", "--patch", "16", "--fraction", "0.7",
          "--device", "cpu", "--checkpoint-seconds", "0.1"]  # fmt: skip


def ran(command: list[str], **environment: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT | environment, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def under_torchrun(processes: int, *words: str) -> list[str]:
    return [str(TORCHRUN), "--standalone", "--nproc-per-node", str(processes), "-m", "mirl", *words]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same search by one process and by two."""
    one, two = (tmp_path_factory.mktemp("distributed") / name for name in ("one", "two"))
    words = [*SEARCH, "--data", str(mini_data())]
    ran([sys.executable, "-m", "mirl", *words, "--out", str(one)])
    out = ran(under_torchrun(2, *words, "--out", str(two)))
    assert out.count("ticket: ") == 1  # the first process alone reports
    return one, two


def test_two_processes_end_with_the_masks_and_the_weights_of_one(runs: tuple[Path, Path]):
    one, two = map(RunFolder, runs)
    levels = len(list(one.path.glob("level-*/level.json")))
    assert levels == len(list(two.path.glob("level-*/level.json"))) == 3
    for level in range(levels):
        masks = [load_masks(run.level(level).mask) for run in (one, two)]
        differing = sum(int((masks[0][name] != masks[1][name]).sum()) for name in masks[0])
        assert sum(int(mask.sum()) for mask in masks[0].values()) == sum(int(mask.sum()) for mask in masks[1].values())
        assert differing <= 1e-4 * sum(mask.size for mask in masks[0].values()), level  # near ties, decided by rounding
        weights = [load_arrays(run.level(level).weights)[0] for run in (one, two)]
        for name, value in weights[0].items():
            both = masks[0][name] == masks[1][name] if name in masks[0] else np.ones(value.shape, bool)
            assert np.allclose(value[both], weights[1][name][both], atol=2e-4), (level, name)
        losses = [
            [json.loads(text)["loss"] for text in run.level(level).metrics.read_text().splitlines()] for run in (one, two)
        ]
        assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_what_two_processes_wrote_passes_the_audit(runs: tuple[Path, Path]):
    assert verify(runs[1]).problems == []


def test_a_run_of_two_processes_goes_on_with_one_level_a_job_and_with_one_process(runs: tuple[Path, Path], tmp_path: Path):
    words = [*SEARCH, "--data", str(mini_data()), "--out", str(tmp_path / "run"), "--levels-now", "1"]
    assert "level 0 of 2 has ended" in ran(under_torchrun(2, *words))
    assert not RunFolder(tmp_path / "run").level(1).path.exists()
    assert verify(tmp_path / "run").problems == []
    out = ran([sys.executable, "-m", "mirl", *words])
    assert "level 1 of 2 has ended" in out
    assert "ticket: " in ran(under_torchrun(2, *words))
    assert verify(tmp_path / "run").problems == []


def test_the_signal_of_a_scheduler_stops_all_processes_at_a_safe_point(tmp_path: Path):
    run = RunFolder(tmp_path / "run")
    words = [
        *SEARCH,
        "--data",
        str(mini_data()),
        "--out",
        str(run.path),
        "--steps",
        "100000",
        "--checkpoint-seconds",
        "9999",
    ]
    process = subprocess.Popen(under_torchrun(2, *words), stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    deadline = time.monotonic() + 200
    while not (run.level(0).metrics.exists() and run.level(0).metrics.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not run.level(0).checkpoint.exists()
    process.terminate()
    assert process.wait(timeout=100) != 0  # nobody asked the search itself to end here
    assert run.level(0).checkpoint.exists()
    assert verify(run.path).problems == []


def test_a_dry_run_measures_with_the_processes_of_torchrun():
    out = ran(under_torchrun(2, *SEARCH, "--dry-run"))
    assert out.count("time: ") == out.count("updates: ") == 1


def test_torchrun_says_how_many_devices_there_are(mini_recipe: Recipe, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MirlError, match="2 processes on each of 2 machines, --devices 3 and --nodes 1 say otherwise"):
        make_setting(mini_recipe, None, "cpu", lambda: False, silent, devices=3)


def test_the_slurm_script_parses():
    subprocess.run(["bash", "-n", SLURM], check=True)
    text = SLURM.read_text()
    assert "#SBATCH --array=0-31%1" in text  # one job at a time: two would work on one run


def test_the_slurm_script_trains_a_level_a_job_until_the_ticket_is_there(tmp_path: Path):
    """Its commands really run, on this machine: srun starts what follows, scontrol names the one node."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in {"srun": 'exec "$@"', "scontrol": "echo localhost"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    run = tmp_path / "run"
    environment = {
        "PATH": f"{programs}:{ENVIRONMENT['PATH']}", "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "2", "RUN": str(run), "DATA": str(mini_data()),
    }  # fmt: skip
    words = ["bash", str(SLURM), *SEARCH[1:], "--fraction", "0.95", "--no-compile"]
    told = [ran(words, **environment) for _ in range(3)]
    assert "level 0 of 1 has ended" in told[0]
    assert "ticket: " in told[1]
    assert told[2] == f"the search has ended: {run / 'ticket.mirl'}\n"
    assert verify(run).problems == []
    recipe = RunFolder(run).recipe()
    assert recipe.train.precision == "bf16-mixed"
