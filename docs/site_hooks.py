"""What MkDocs cannot do by itself: pictures of results/ lie beside docs/ in the repository and inside of it on the site."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PICTURES = "results/evidence/crops"


def on_files(files: Files, config: Any) -> Files:
    """Add the crops that the results page shows."""
    for path in sorted((ROOT / PICTURES).rglob("*.jpg")):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point to them where they are on the site."""
    return markdown.replace(f"](../{PICTURES}/", f"]({PICTURES}/")
