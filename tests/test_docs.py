"""The documentation says what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_settings_page_is_written_from_the_code():
    spec = importlib.util.spec_from_file_location("write_reference", ROOT / "tools" / "write_reference.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(), "run make docs"


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", *sorted(p.relative_to(ROOT) for p in (ROOT / "docs").rglob("*.md"))],
    ids=str,
)
def test_links_between_pages_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_the_version_of_the_changelog_is_that_of_the_package():
    from lowshot import __version__

    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert not released or released[0] == __version__


def test_everything_public_is_documented():
    import lowshot

    assert all(getattr(lowshot, name).__doc__ for name in lowshot.__all__ if name != "__version__")
    assert set(lowshot.__all__) == {"FewShotClassifier", "LowshotError", "Recipe", "Task", "__version__", "errors"}
