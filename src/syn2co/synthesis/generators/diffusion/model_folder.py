"""The model of a pipeline: its folder, hub id or file, the files that are read, their hash, and the license."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from syn2co.core.errors import ConfigError
from syn2co.core.json_files import JsonError, JsonObject, read_json
from syn2co.core.paths import is_folder, lies_there, user_path
from syn2co.synthesis.generators.diffusion.abilities import abilities
from syn2co.synthesis.generators.diffusion.options import DiffusionOptions, is_single_file

INDEX, CARD = "model_index.json", "README.md"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_WEIGHTS = (".safetensors", ".bin")
_SMALL = ("*.json", "*.txt", "*.model")
"""Configs and vocabularies."""
_BLOCK = 1 << 22


@dataclass(frozen=True)
class ModelFolder:
    """A complete diffusers pipeline on this machine."""

    name: str
    """The hub id, or the last part of the folder's path: it may be published."""
    path: Path
    revision: str | None
    license: str | None
    """As the model card says it."""
    index: Mapping[str, Any]
    """The content of its model_index.json."""
    file: Path | None = None
    """File of weights that take the place of those in the folder."""
    lora: Path | None = None

    @property
    def pipeline(self) -> str:
        """The class that it was saved as."""
        return str(self.index.get("_class_name"))

    @property
    def parts(self) -> list[str]:
        """Names of its subfolders, such as unet and vae."""
        return sorted(
            name
            for name, value in self.index.items()
            if not name.startswith("_") and isinstance(value, list) and value[0] is not None
        )


def is_hub_id(model: str) -> bool:
    """Whether a model is looked up on the Hugging Face hub: it has the form owner/name and no such folder is here."""
    named = _HUB_ID.fullmatch(model) is not None and not is_single_file(model)
    return named and not lies_there(user_path(model))


def find_model(options: DiffusionOptions) -> ModelFolder:
    """Return the model of a local folder or file, which needs no network, or of a hub id, downloaded if not cached.

    Raises:
        ConfigError: if there is none, it is of no known class, or files are missing.
    """
    files = own_files(options)
    if "file" not in files:
        folder = _find_folder("model", options.model, options.revision, options.variant)
        _check_files(folder, options.variant)
    else:
        base = _find_folder("base", options.base or _known_base(files["file"]), options.revision, None, weights=False)
        folder = replace(base, name=files["file"].name, license=None)
    return replace(folder, **files)


def own_files(options: DiffusionOptions) -> dict[str, Path]:
    """Return the single files among the options: weights of a pipeline (file) and of a LoRA (lora).

    Raises:
        ConfigError: if there is no such file, or it is no .safetensors.
    """
    files: dict[str, Path] = {}
    for setting, key, text in (("model", "file", options.model), ("lora", "lora", options.lora)):
        if text is None or (setting == "model" and not is_single_file(text)):
            continue
        files[key] = user_path(text)
        if not (is_single_file(text) and files[key].is_file()):
            raise ConfigError(f"{setting} = {files[key].name}: is no .safetensors file; correct the path")
    return files


def _find_folder(
    setting: str, model: str, revision: str | None, variant: str | None, *, weights: bool = True
) -> ModelFolder:
    """Return the folder of a pipeline; without `weights` only its small files are needed."""
    path = user_path(model)
    if is_folder(path):
        folder = _describe(path.resolve().name, path, revision)
    elif not is_hub_id(model):
        raise ConfigError(
            f"{setting} = {model}: is neither a folder nor a hub id (owner/name); give the folder that a diffusers "
            "pipeline was saved to"
        )
    else:
        folder = _download(model, revision, variant, weights=weights)
    abilities(folder.pipeline, folder.name)
    return folder


def _known_base(file: Path) -> str:
    """Return the hub id of the pipeline that a file of weights belongs to, by the names of its tensors."""
    from diffusers.loaders.single_file_utils import fetch_diffusers_config, load_single_file_checkpoint

    try:
        return fetch_diffusers_config(load_single_file_checkpoint(str(file)))["pretrained_model_name_or_path"]
    except Exception as error:  # the reader raises errors of several libraries for a damaged file
        raise ConfigError(
            f"model = {file.name}: cannot be read ({_first_line(error)}); copy or download it again"
        ) from None


def files_hash(model: ModelFolder, variant: str | None) -> str:
    """Return 32 hex digits of blake2b over names and contents of every file that is loaded: configs and weights."""
    listed = [(f"./{INDEX}", model.path / INDEX)]
    parts = [part for part in model.parts if (model.path / part).is_dir()]  # a base may have no weights of its own
    listed += [(f"{part}/{path.name}", path) for part in parts for path in _loaded_files(model.path / part, variant)]
    return hash_of([*listed, *((key, path) for key in ("file", "lora") if (path := getattr(model, key)) is not None)])


def hash_of(listed: Sequence[tuple[str, Path]]) -> str:
    """Return 32 hex digits of blake2b over files, each under the name that it has in the model."""
    states = [path.stat() for _, path in listed]
    return _files_hash(tuple(listed), tuple((state.st_size, state.st_mtime_ns) for state in states))


@lru_cache(maxsize=8)  # the plan and the opened generator both ask for it, and weights are gigabytes
def _files_hash(listed: tuple[tuple[str, Path], ...], states: tuple[tuple[int, int], ...]) -> str:
    hasher = blake2b(digest_size=16)
    for (name, path), (size, _) in zip(listed, states, strict=True):
        hasher.update(f"{name} {size}\n".encode())
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                hasher.update(block)
    return hasher.hexdigest()


def _download(model: str, revision: str | None, variant: str | None, *, weights: bool) -> ModelFolder:
    """Return the hub's model in the hub's cache; its revision is the commit that `revision` stands for today."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    from huggingface_hub import snapshot_download

    try:
        index: Any = DiffusionPipeline.load_config(model, revision=revision)
        abilities(str(index.get("_class_name")), model)  # before gigabytes are fetched
        if weights:
            path = Path(DiffusionPipeline.download(model, revision=revision, variant=variant))
        else:
            path = Path(snapshot_download(model, revision=revision, allow_patterns=list(_SMALL)))
    except ConfigError:
        raise
    except Exception as error:  # the hub's errors have no common class: offline, gated, unknown, interrupted
        raise ConfigError(
            f"model = {model}: is no folder here and cannot be had from the Hugging Face hub "
            f"({_first_line(error)}); check the id, the revision and the network, or give the folder of a model"
        ) from None
    commit = path.name if path.parent.name == "snapshots" else revision
    _fetch_card(model, commit)
    return _describe(model, path, commit)


def _fetch_card(model: str, commit: str | None) -> None:
    """Put the model card, which a pipeline's download leaves out, beside the model; there may be none."""
    from huggingface_hub import hf_hub_download

    with contextlib.suppress(OSError):  # no card, or no network: the license is then unknown, and noted as such
        hf_hub_download(model, CARD, revision=commit)


def _describe(name: str, path: Path, revision: str | None) -> ModelFolder:
    try:
        index = read_json(path / INDEX, JsonObject)
    except OSError:
        raise ConfigError(
            f"model = {name}: has no {INDEX}, so it is not the folder of a diffusers pipeline; give one that "
            "save_pretrained wrote"
        ) from None
    except JsonError:
        raise ConfigError(f"model = {name}: its {INDEX} is damaged; copy or download the model again") from None
    return ModelFolder(name, path, revision, _card_license(path / CARD), index)


def _card_license(card: Path) -> str | None:
    """Return the license in the front matter of a model card, or None."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    try:
        text = card.read_text(encoding="utf-8-sig", errors="replace")
        data: Any = ModelCard(text, ignore_metadata_errors=True).data  # not ModelCard.load, which may ask the hub
    except OSError:  # no card
        return None
    except (ValueError, TypeError, YAMLError):  # cards are written by hand: an unquoted colon makes them no YAML
        matched = re.search(r"^license:[ \t]*[\"']?(\w[\w.+-]*)", text.partition("\n---")[0], re.MULTILINE)
        return matched[1] if matched and matched[1] != "other" else None
    license_name = data.license_name if data.license == "other" else data.license
    return license_name if isinstance(license_name, str) else None


def _check_files(model: ModelFolder, variant: str | None) -> None:
    """Refuse a model with a part, a config or weights missing, by name and before minutes are spent on loading."""
    for part in model.parts:
        folder = model.path / part
        files = list(_loaded_files(folder, variant)) if folder.is_dir() else []
        if not files:
            raise ConfigError(
                f"model = {model.name}: the folder {part}/ is missing or empty; copy or download the model again"
            )
        is_network = any(path.name == "config.json" for path in files)
        if is_network and not any(path.suffix in _WEIGHTS for path in files):
            raise ConfigError(
                f"model = {model.name}: {part}/ has no weights (.safetensors or .bin); copy or download the model "
                "again, or set variant if all its weights are of one, such as fp16"
            )
    if variant is not None and not any(_variant(path) == variant for path in model.path.glob("*/*")):
        raise ConfigError(f"model = {model.name}: has no weights of variant = {variant}; set another variant or null")


def _loaded_files(folder: Path, variant: str | None) -> Iterator[Path]:
    """Yield the files of a part that loading reads: configs, vocabularies and, of several kinds of weights, one."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    weights = [path for path in files if path.suffix in _WEIGHTS]
    for suffix in _WEIGHTS:
        of_suffix = [path for path in weights if path.suffix == suffix]
        chosen = [path for path in of_suffix if variant is not None and _variant(path) == variant]
        chosen = chosen or [path for path in of_suffix if _variant(path) is None]
        if chosen:
            break
    else:
        chosen = []
    yield from chosen
    yield from (path for path in files if path.suffix in (".json", ".txt", ".model") and ".index." not in path.name)


def _variant(path: Path) -> str | None:
    """Return fp16 of model.fp16.safetensors and of model.fp16-00001-of-00002.safetensors, None of plain weights."""
    middle = path.name.removesuffix(path.suffix).partition(".")[2]
    return re.sub(r"-\d+-of-\d+$", "", middle) or None if path.suffix in _WEIGHTS else None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"
