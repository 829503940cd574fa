"""`export`: an encoder for other libraries, as timm weights, a Hugging Face folder or an ONNX file."""

import errno
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from syn2co.core.errors import ConfigError, EvaluationError, FileError
from syn2co.core.files import best_effort
from syn2co.core.paths import is_file, is_folder, user_path, weights_path
from syn2co.core.progress import note
from syn2co.core.versions import __version__
from syn2co.models.card import SCORES, model_card, read_scores
from syn2co.models.encoder import Encoder
from syn2co.models.export_folder import ONNX, README, export_folder
from syn2co.models.load import load_with_record
from syn2co.models.onnx_file import require_onnx, write_onnx
from syn2co.models.timm_files import CONFIG, FORMAT, OWN, WEIGHTS

Target = Literal["timm", "hf", "onnx"]


def export(
    run: str | Path,
    *,
    to: Target,
    out: str | Path | None = None,
    branch: str = "online",
    scores: str | Path | None = None,
    trust: bool = False,
) -> Path:
    """Write a trained encoder for other libraries and return the folder.

    The folder appears whole or not at all. Features of timm and transformers are equal to the last bit to those of
    `load_encoder`; those of ONNX were compared in onnxruntime at batch 1 and 3, within 1e-4.

    Args:
        run: a run folder, or anything else that `load_encoder` takes.
        to: "timm" (model.safetensors and config.json, for `timm.create_model`), "hf" (the same with a model card, for
            `transformers`) or "onnx" (model.onnx with a free batch size; its input is normalized).
        out: the folder; an earlier export is replaced, anything else refused. None is export/`to` in the run folder.
        branch: "online" or "target", of run folders and checkpoints; any other source holds one encoder.
        scores: an evaluation.json for the model card; None is the one in the run folder, if it is of these weights.
        trust: read a file of weights that is a pickle too; of that, tensors and plain values alone.

    Returns:
        The folder, with syn2co.json in it: settings of the encoder, and the run that it comes from.

    Raises:
        ConfigError: if `to` is unknown, `out` is missing, or a library for ONNX is not installed.
        CheckpointError: if there is no readable encoder, or ONNX cannot express it or gives other features.
        EvaluationError: if `scores` is no report of `evaluate` or has none of these weights.
        FileError: if `out` holds something else, is the source, or cannot be written.

    Example:
        >>> small = ["training.steps=1", "training.batch=8", "queue.size=64", "negatives.hardest=16", "heads.hidden=64"]
        >>> run = syn2co.pretrain("demo", out="run", real=["builtin:digits:test"], settings=small, progress=False)
        >>> folder = export(run.folder, to="timm", out="digits")
        >>> sorted(path.name for path in folder.iterdir())
        ['config.json', 'model.safetensors', 'syn2co.json']
    """
    if to not in get_args(Target):
        raise ConfigError(f"to = {to}: must be one of {', '.join(get_args(Target))}")
    if to == "onnx":
        require_onnx()
    folder = _folder(run, to, out)
    encoder, record = load_with_record(run, branch=branch, trust=trust)
    rows = _scores(run, scores, encoder) if to == "hf" else []
    with export_folder(folder) as temporary:
        if to == "onnx":
            write_onnx(encoder, temporary / ONNX, {**record, **encoder.provenance})
        else:
            _write_weights(encoder, temporary / WEIGHTS)
            _write_json(temporary / CONFIG, timm_config(encoder, transformers=to == "hf"))
        if to == "hf":
            (temporary / README).write_text(model_card(encoder, record, rows), encoding="utf-8")
        _write_json(temporary / OWN, _own(encoder, to, record))
    return folder


def timm_config(encoder: Encoder, *, transformers: bool = False) -> dict[str, Any]:
    """Return the config.json of timm's hub, whose evaluation transform is the encoder's."""
    side = encoder.image_size
    known: Any = encoder.backbone.pretrained_cfg
    pretrained_cfg = {
        "input_size": [3, side, side], "fixed_input_size": "img_size" in encoder.model_args, "pool_size": None,
        "mean": list(encoder.spec.mean), "std": list(encoder.spec.std), "num_classes": 0,
        "crop_pct": timm_crop_pct(side, encoder.crop_ratio), "crop_mode": "squash" if encoder.squash else "center",
        "interpolation": encoder.interpolation,
        "first_conv": known.get("first_conv"), "classifier": known.get("classifier"),
    }  # fmt: skip
    names = {"model_type": "timm_wrapper", "architectures": ["TimmWrapperModel"]} if transformers else {}
    return {
        **names, "architecture": encoder.spec.name.partition(".")[0], "num_classes": 0, "num_features": encoder.width,
        "model_args": encoder.model_args, "pretrained_cfg": pretrained_cfg,
    }  # fmt: skip


def timm_crop_pct(side: int, crop_ratio: float) -> float:
    """Return timm's crop_pct for an evaluation crop: timm resizes to floor(side / crop_pct), we to the nearest number.

    Example:
        >>> timm_crop_pct(96, 0.875), math.floor(96 / timm_crop_pct(96, 0.875)), round(96 / 0.875)
        (0.8727272727272727, 110, 110)
    """
    short = round(side / crop_ratio)
    ratio = side / short
    while math.floor(side / ratio) < short:  # the last bit of the division
        ratio = math.nextafter(ratio, 0.0)
    return ratio


def _folder(run: str | Path, to: str, out: str | Path | None) -> Path:
    if out is not None:
        _refuse_source(str(run), weights_path(out))
        return weights_path(out)
    if not is_folder(user_path(run) / "checkpoints"):
        raise ConfigError(f"--out: is needed, since {Path(run).name} is no run folder; name a folder for the export")
    return user_path(run) / "export" / to


def _refuse_source(run: str, out: Path) -> None:
    """Refuse to write an export over the one that it is read from."""
    source = user_path(run.split(":", 2)[-1] if run.startswith("timm:") else run).resolve()
    if out.resolve() in (source, source.parent if is_file(source) else source):
        raise FileError(f"--out {out.name}: is what the encoder is read from; choose another folder")


def _scores(run: str | Path, scores: str | Path | None, encoder: Encoder) -> Sequence[dict[str, Any]]:
    path = user_path(run) / SCORES if scores is None else user_path(scores)
    if scores is None and not is_file(path):
        return []
    rows = read_scores(path, encoder)
    if rows:
        return rows
    sentence = f"{path.name}: has no score of these weights (another step, branch or run)"
    if scores is not None:
        raise EvaluationError(f"--scores {sentence}; evaluate this encoder, or leave --scores out")
    note(f"{sentence}, so the model card shows none")
    return []


def _own(encoder: Encoder, to: str, record: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT, "written_by": f"syn2co {__version__}", "to": to,
        "encoder": encoder.spec.model_dump(mode="json"),
        "crop_ratio": encoder.crop_ratio, "interpolation": encoder.interpolation, "squash": encoder.squash,
        "provenance": encoder.provenance, "run": record,
    }  # fmt: skip


def _write_weights(encoder: Encoder, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in encoder.backbone.state_dict().items()}
    try:
        save_file(tensors, path, metadata={"format": "pt"})  # transformers asks for the format
    except SafetensorError as error:  # the system's error, in a class and a text of its own
        raise OSError(errno.ENOSPC if "os error 28" in str(error) else None, str(error)) from None
    with best_effort("permissions of the weights cannot be set on this disk"):
        path.chmod(mode)  # safetensors leaves a file that nobody else may read, whatever the umask


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
