"""The pictures of the lecture: every slide draws, and the page has them."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from test_cli import refuse, run

from rnncore.story.page import write_page
from rnncore.story.slides import SLIDES, Slide, draw_slide

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("RNNCORE_DATA", ROOT.parent / "shared" / "data"))
NAMES = [slide.name for slide in SLIDES]


def hurry(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a slide train for a moment alone."""
    small = {"SECONDS": 0.5, "SEEDS": 1, "UNITS": 16, "CHUNKS": (5, 20), "CHARACTERS": 30_000}
    small |= {"STEPS": 2000 if hasattr(module, "CHUNKS") else 30}
    for name, value in small.items():
        if hasattr(module, name):
            monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("slide", SLIDES, ids=NAMES)
def test_every_slide_draws(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DATA if DATA.exists() else None
    if slide.needs and not slide.needs.startswith("?") and data is None:
        pytest.skip(f"needs {slide.needs}: give RNNCORE_DATA")
    hurry(import_module(f"rnncore.story.{slide.name}"), monkeypatch)
    hurry(import_module("rnncore.story.texts"), monkeypatch)
    found = draw_slide(slide, tmp_path, data)
    assert found.picture is not None and found.caption and found.seconds > 0
    assert found.picture.read_bytes().startswith(b"\x89PNG")


def test_texts_without_data() -> None:
    from rnncore.story.texts import text_of

    text, name = text_of(None)
    assert len(text) > 100_000 and "def " in text and "Python" in name


def test_the_command(tmp_path: Path) -> None:
    chosen = ("--only", "bounded", "--only", "equations", "--only", "speech")
    said = run("story", tmp_path / "out", *chosen).stdout
    assert "No picture: it needs speech/fsdd in the folder of --data." in said
    page = (tmp_path / "out" / "speech-equations-bounded.html").read_text()
    assert not (tmp_path / "out" / "index.html").exists()  # that of all slides
    order = re.findall(r"<h2 id='(\w+)'>", page)
    assert order == ["speech", "equations", "bounded"]  # as in the lecture
    assert page.count("src='data:image/png;base64,") == 2 and "--only bounded" in page
    refuse("story", tmp_path / "out", "--only", "nothing", match="'nothing' is not one of")
    refuse("story", tmp_path / "out", "--data", tmp_path / "none", match="does not exist")
    (tmp_path / "file").write_text("")
    refuse("story", tmp_path / "file", match="is a file")
    refuse("story", tmp_path / "file" / "x", "--only", "equations", match="FOLDER: ")


def test_a_page_shows_texts_as_they_are(tmp_path: Path) -> None:
    slide = Slide("a", "1 < 2", "x & y", "a < b")
    drawn = draw_slide(slide._replace(needs="nowhere"), tmp_path, None)
    write_page(tmp_path / "page.html", [drawn], "rnncore story 'a b'")
    page = (tmp_path / "page.html").read_text()
    assert "1 &lt; 2" in page and "x &amp; y" in page and "<img" not in page


def test_the_page_for_lecturers_has_every_slide() -> None:
    page = (ROOT / "docs" / "story.md").read_text()
    titles = re.findall(r"^## \d+\. (.*)$", page, re.MULTILINE)
    assert titles == [slide.title for slide in SLIDES]
    assert re.findall(r"rnncore story \w+ .*--only (\w+)", page) == NAMES
