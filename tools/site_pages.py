"""The pages of the site besides docs/: the repository's root, the notebooks; and links to files that it lacks.

MkDocs calls these functions while it builds the site (``hooks`` in mkdocs.yml).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {"contributing.md": ROOT / "CONTRIBUTING.md", "changelog.md": ROOT / "CHANGELOG.md"}
NOTEBOOKS = {f"notebooks/{path.stem}.md": path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
SOURCES = ROOT_PAGES | NOTEBOOKS
"""Page of the site -> the file that it is made of."""
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and the notebooks with what they print."""
    for name, path in ROOT_PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for name, path in NOTEBOOKS.items():
        files.append(File.generated(config, name, content=_page_of(path)))
    return files


def _page_of(path: Path) -> str:
    """A notebook as Markdown: its texts, its cells, what they printed and drew."""
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        parts.append(cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```")
        parts += map(_shown, cell.get("outputs", ()))
    title, *rest = parts
    return "\n\n".join([title, f"The notebook is `{path.relative_to(ROOT).as_posix()}`.", *rest])


def _shown(output: Any) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f"![What the cell drew](data:image/png;base64,{''.join(data['image/png'].split())})"
    return f"```text\n{(output.get('text') or data['text/plain']).rstrip()}\n```"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Lead links to where their target is in the site; of a target that is not in it, name the path in the text."""
    docs, origin = Path(config.docs_dir), SOURCES.get(page.file.src_uri)
    folder = origin.parent if origin else (docs / page.file.src_uri).parent

    def rewritten(match: re.Match[str]) -> str:
        text, target, anchor = match.group(1), match.group(2), match.group(3) or ""
        if "://" in target or target.startswith("mailto:"):
            return match.group()
        path = Path(os.path.normpath(folder / target))
        if not path.exists():
            return match.group()  # MkDocs says that it is broken
        shown = {source: docs / name for name, source in SOURCES.items()}.get(path, path)
        if shown.is_relative_to(docs):
            return f"[{text}]({os.path.relpath(shown, (docs / page.file.src_uri).parent)}{anchor})"
        name = path.relative_to(ROOT).as_posix()
        return text if name.rstrip("/") in text else f"{text} (`{name}`)"

    return LINK.sub(rewritten, markdown)
