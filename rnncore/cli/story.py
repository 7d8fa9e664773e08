"""The command that draws the pictures of a lecture."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from rnncore.cli.options import make_folder, option, together
from rnncore.cli.progress import program
from rnncore.story.slides import SLIDES, draw_slide


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@together(
    option(
        "--data", type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder of real data; slides that need it have no picture without.",
    ),
    option(
        "--only", multiple=True, type=click.Choice([slide.name for slide in SLIDES]),
        help="This slide; may stand several times.  [default: all]",
    ),
)  # fmt: skip
def story(folder: Path, data: Path | None, only: tuple[str, ...]) -> None:
    """Draw the pictures of a lecture on recurrent networks into FOLDER, with index.html.

    Some slides alone have a page of their own, by their names, so that the whole one stays.

    All together they take less than five minutes on two processors. docs/story.md has what there
    is to say.
    """
    from rnncore.story.page import write_page

    make_folder(folder, "FOLDER")
    drawn = []
    for slide in SLIDES:
        if only and slide.name not in only:
            continue
        click.echo(f"{slide.title} ...")
        one = draw_slide(slide, folder, data)
        drawn.append(one)
        shown = "" if one.picture is None else f"  {one.picture}, {one.seconds:.0f} s\n"
        click.echo(shown + "".join(f"  {line}\n" for line in one.caption.splitlines()), nl=False)
    page = folder / f"{'-'.join(one.slide.name for one in drawn) if only else 'index'}.html"
    own = [] if data is None else ["--data", str(data)]
    write_page(page, drawn, shlex.join([*program(), "story", str(folder), *own]))
    click.echo(f"All of it: {page}, {sum(one.seconds for one in drawn):.0f} s")
