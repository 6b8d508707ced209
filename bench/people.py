"""File a measurement of what people have for the results page, under a label; one of the same label is replaced.

    mirl evaluate --suite people --ticket small --data ../shared/data/test --peers nlm opencv --json people.json
    python bench/people.py people.json --label "tone and windows" [--into results/people.json]

The page shows the measurements in the order in which their labels were first filed: our last is held against our first.
"""

import argparse
import json
from pathlib import Path

from mirl.files import write_json


def file_measurement(scores: Path, label: str, into: Path) -> None:
    """Add what `mirl evaluate --suite people --json` wrote to the file of measurements."""
    found = json.loads(scores.read_text())
    if "groups" not in found:
        raise SystemExit(f"{scores} holds no groups; expected what mirl evaluate --suite people --json writes")
    filed = json.loads(into.read_text())["measurements"] if into.exists() else []
    each = {"label": label, "scores": found}
    if label in (labels := [one["label"] for one in filed]):
        filed[labels.index(label)] = each
    else:
        filed.append(each)
    write_json(into, {"measurements": filed})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--label", required=True)
    parser.add_argument("--into", type=Path, default=Path("results/people.json"))
    options = parser.parse_args()
    file_measurement(options.scores, options.label, options.into)


if __name__ == "__main__":
    main()
