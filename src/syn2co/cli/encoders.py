"""`syn2co export`: encoders for other libraries. One library call."""

from typing import Any

import click

from syn2co.cli.options import UserPath, branch_option

_NEXT = {
    "timm": 'timm.create_model("local-dir:{folder}", pretrained=True, num_classes=0)',
    "hf": 'transformers.AutoModel.from_pretrained("{folder}")',
    "onnx": 'onnxruntime.InferenceSession("{folder}/model.onnx")',
}


@click.command()
@click.argument("run")
@click.option("--to", required=True, type=click.Choice(list(_NEXT)), help="Library that shall load it.")
@click.option("--out", type=UserPath(), help="Folder; export/timm, hf or onnx in the run if left out.")
@branch_option
@click.option("--scores", type=UserPath(), help="An evaluation.json for the model card of hf.")
@click.option("--trust", is_flag=True, help="Read a file of weights that is a pickle too; tensors alone.")
def export(run: str, **options: Any) -> None:
    """Write the encoder of RUN for timm, transformers or onnxruntime, with equal features.

    RUN is a run folder, a checkpoint, or any other encoder that evaluate takes, such as timm:NAME:FILE.
    """
    from syn2co.models.export import export as write

    folder = write(run, **options)
    click.echo(f"{folder}: written. Next: {_NEXT[options['to']].format(folder=folder)}")
