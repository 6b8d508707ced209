"""A thousand malformed and odd files against a running service and `mirl restore`; memory before and after.

python bench/serve_fuzz.py [--count 1000] [--seed 0] [--json results/serve_fuzz.json]
"""

import argparse
import io
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import httpx
from PIL import Image

from mirl.files import write_json
from mirl.ticket import write_ticket
from service import resident_mb, service

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from conftest import make_ticket
from odd_images import mutations, named


def verdict(answer: httpx.Response) -> str:
    """Return "image" or the code of a refusal; "wrong ..." for anything else."""
    if answer.status_code == 200:
        try:
            Image.open(io.BytesIO(answer.content)).load()
        except Exception:
            return "wrong image"
        return "image"
    try:
        code = str(answer.json()["error"]["code"])
    except (ValueError, KeyError):
        return f"wrong answer {answer.status_code}"
    return code if 400 <= answer.status_code < 500 else f"wrong status {answer.status_code} {code}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("results/serve_fuzz.json"))
    options = parser.parse_args()
    files = [content for content, _ in named().values()] + list(mutations(options.count, options.seed))
    with tempfile.TemporaryDirectory() as temporary:
        folder, ticket = Path(temporary) / "in", Path(temporary) / "t.mirl"
        write_ticket(make_ticket(keep=0.9), ticket)
        folder.mkdir()
        for number, content in enumerate(files):
            (folder / f"{number}.png").write_bytes(content)
        with service(ticket, Path(temporary) / "log") as (process, address), httpx.Client(base_url=address) as client:
            for content in files[:100]:
                client.post("/v1/restore", content=content)
            before = resident_mb(process)
            verdicts = Counter(verdict(client.post("/v1/restore", content=content)) for content in files)
            after, alive = resident_mb(process), process.poll() is None
        words = [sys.executable, "-m", "mirl", "restore", str(folder), "-o", f"{temporary}/out", "--ticket", str(ticket)]
        restored = subprocess.run([*words, "--max-megapixels", "24"], capture_output=True, text=True)
    result = {
        "command": f"python bench/serve_fuzz.py --count {options.count} --seed {options.seed}",
        "files": len(files),
        "answers": dict(sorted(verdicts.items())),
        "wrong": sum(count for kind, count in verdicts.items() if kind.startswith("wrong")),
        "service_alive": alive,
        "resident_mb_before_after": [before, after],
        "restore": {
            "exit_code": restored.returncode,
            "restored": len(restored.stdout.splitlines()),
            "tracebacks": restored.stderr.count("Traceback"),
        },
    }
    print(result)
    write_json(options.json, result)
    if result["wrong"] or not alive or restored.stderr.count("Traceback"):
        sys.exit("a file was answered wrongly")


if __name__ == "__main__":
    main()
