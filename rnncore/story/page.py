"""The page of all slides: one HTML file with its pictures in it."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from rnncore import files
from rnncore.story.slides import Drawn

STYLE = (
    "body{font:18px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "img{max-width:100%}pre{background:#f4f4f4;padding:.6rem 1rem;overflow-x:auto;font-size:15px}"
    "h2{margin-top:3rem}.caption{color:#555;white-space:pre-wrap}"
)


def write_page(path: str | os.PathLike[str], drawn: Sequence[Drawn], command: str) -> None:
    """Write the slides, in their order, into one file that needs no other.

    Parameters
    ----------
    path
    drawn
    command
        What draws a slide alone, but for its name.
    """
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Recurrent networks</title>",
        f"<style>{STYLE}</style><h1>Recurrent networks, slide by slide</h1>",
    ]
    for number, one in enumerate(drawn, 1):
        slide = one.slide
        parts.append(f"<h2 id='{slide.name}'>{number}. {escape(slide.title)}</h2>")
        parts.append(f"<p>{escape(slide.words)}</p>")
        if slide.formula:
            parts.append(f"<pre>{escape(slide.formula)}</pre>")
        if one.picture is not None:
            image = base64.b64encode(Path(one.picture).read_bytes()).decode()
            parts.append(f"<img alt='{escape(slide.title)}' src='data:image/png;base64,{image}'>")
        parts.append(f"<p class='caption'>{escape(one.caption)}</p>")
        parts.append(f"<pre>{escape(command)} --only {slide.name}</pre>")
    files.write_whole(path, "\n".join([*parts, "</html>\n"]).encode())
