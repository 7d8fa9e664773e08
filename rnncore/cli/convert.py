"""The command that converts models of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rnncore.cli.options import option, together

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("source", type=PATH)
@click.argument("output", type=PATH, required=False)
@together(
    option("--prefix", multiple=True, metavar="NAME", help="Of a state dict the part to take, "
           "such as rec. of rec.weight_ih_l0; of Keras a layer, of ONNX a recurrent node. Several, "
           "in their order, make one model."),
    option("--nonlinearity", type=click.Choice(["tanh", "relu"]),
           help="Of an RNN in a state dict, which does not say it."),
    option("--batch-first", is_flag=True, default=None,
           help="Of a state dict: take (B, T, features)."),
    option("--config", metavar="FILE", help="Of Keras's weights alone: what model.to_json() "
           "returned, in a file."),
    option("--test", nargs=2, type=PATH, metavar="X Y", help="Of RTNeural and Neural Amp Modeler, "
           "whose engines do not run here: an input and what was computed of it, .csv (a row a "
           "step) or .npy, for the proof."),
    option("--no-proof", is_flag=True, help="Do not hold the result against the source's engine."),
)  # fmt: skip
def convert(source: Path, output: Path | None, no_proof: bool, **given: Any) -> None:
    r"""Convert a model that another program wrote, and prove that it computes the same.

    SOURCE is a file of PyTorch (.safetensors, .pt, .pth, .bin, .ckpt), Keras (.keras,
    .h5), ONNX (.onnx), RTNeural or GuitarML (.json), Neural Amp Modeler (.nam) or
    rnncore. Sizes are found in it; what it leaves open is asked for, never guessed.

    OUTPUT says by its end what to write: .safetensors for rnncore, which
    rnncore.convert.load reads, .keras, .onnx, .json for RTNeural, .pt for PyTorch's
    state dict. Without it the command says what it found.

    \b
    rnncore convert amp.pt amp.safetensors --prefix rec. --prefix lin.
    rnncore convert amp.safetensors amp.pt
    """
    from rnncore import convert as conversion
    from rnncore.convert.writing import writer_of

    options = {name: value for name, value in given.items() if value not in (None, ())}
    if no_proof:
        options["prove"] = False
    if output is not None:
        writer_of(output)
    found = conversion.load(source, **options)
    click.echo(str(found))
    if output is not None:
        conversion.write(output, found.model)
        click.echo(f"written: {output}")
