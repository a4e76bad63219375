"""What the site has besides docs/: the pages of the repository's root; and links to files that it does not show.

MkDocs calls these functions while it builds the site (``hooks`` in mkdocs.yml).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {"contributing.md": ROOT / "CONTRIBUTING.md", "changelog.md": ROOT / "CHANGELOG.md"}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root."""
    for name, path in ROOT_PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Lead links to where their target is in the site; of a target that is not in it, name the path in the text."""
    docs, source = Path(config.docs_dir), ROOT_PAGES.get(page.file.src_uri)
    folder = source.parent if source else (docs / page.file.src_uri).parent

    def rewritten(match: re.Match[str]) -> str:
        text, target, anchor = match.group(1), match.group(2), match.group(3) or ""
        if "://" in target or target.startswith("mailto:"):
            return match.group()
        path = Path(os.path.normpath(folder / target))
        if not path.exists():
            return match.group()  # MkDocs says that it is broken
        shown = {page_path: docs / name for name, page_path in ROOT_PAGES.items()}.get(path, path)
        if shown.is_relative_to(docs):
            return f"[{text}]({os.path.relpath(shown, (docs / page.file.src_uri).parent)}{anchor})"
        name = path.relative_to(ROOT).as_posix()
        return text if name.rstrip("/") in text else f"{text} (`{name}`)"

    return LINK.sub(rewritten, markdown)
