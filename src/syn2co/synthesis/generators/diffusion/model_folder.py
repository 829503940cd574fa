"""The model of a pipeline: its folder or hub id, its files, their hash, and the license on its card."""

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from syn2co.core.errors import ConfigError

INDEX, CARD = "model_index.json", "README.md"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_WEIGHTS = (".safetensors", ".bin")
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
    return not Path(model).expanduser().exists() and _HUB_ID.fullmatch(model) is not None


def find_model(model: str, *, revision: str | None, variant: str | None, supported: Collection[str]) -> ModelFolder:
    """Return the model of a local folder, which needs no network, or of a hub id, downloaded if it is not cached.

    Raises:
        ConfigError: if there is none, it is of no `supported` class, or files are missing.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        folder = _describe(path.resolve().name, path, revision)
        _check_class(folder.name, folder.pipeline, supported)
    elif not is_hub_id(model):
        raise ConfigError(
            f"model = {model}: is neither a folder nor a hub id (owner/name); give the folder that a diffusers "
            "pipeline was saved to"
        )
    else:
        folder = _download(model, revision, variant, supported)
    _check_files(folder, variant)
    return folder


def files_hash(model: ModelFolder, variant: str | None) -> str:
    """Return 32 hex digits of blake2b over names and contents of every file that is loaded: configs and weights."""
    listed = [(".", model.path / INDEX)]
    listed += [(part, path) for part in model.parts for path in _loaded_files(model.path / part, variant)]
    states = [path.stat() for _, path in listed]
    return _files_hash(tuple(listed), tuple((state.st_size, state.st_mtime_ns) for state in states))


@lru_cache(maxsize=8)  # the plan and the opened generator both ask for it, and weights are gigabytes
def _files_hash(listed: tuple[tuple[str, Path], ...], states: tuple[tuple[int, int], ...]) -> str:
    hasher = blake2b(digest_size=16)
    for (part, path), (size, _) in zip(listed, states, strict=True):
        hasher.update(f"{part}/{path.name} {size}\n".encode())
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                hasher.update(block)
    return hasher.hexdigest()


def _download(model: str, revision: str | None, variant: str | None, supported: Collection[str]) -> ModelFolder:
    """Return the hub's model in the hub's cache; its revision is the commit that `revision` stands for today."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    try:
        index: Any = DiffusionPipeline.load_config(model, revision=revision)
        _check_class(model, str(index.get("_class_name")), supported)  # before gigabytes are fetched
        path = Path(DiffusionPipeline.download(model, revision=revision, variant=variant))
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


def _check_class(name: str, pipeline: str, supported: Collection[str]) -> None:
    if pipeline not in supported:
        raise ConfigError(
            f"model = {name}: is a {pipeline}, which is not supported; give one of {', '.join(supported)}"
        )


def _describe(name: str, path: Path, revision: str | None) -> ModelFolder:
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(
            f"model = {name}: has no {INDEX}, so it is not the folder of a diffusers pipeline; give one that "
            "save_pretrained wrote"
        ) from None
    except ValueError:
        index = None
    if not isinstance(index, dict):
        raise ConfigError(f"model = {name}: its {INDEX} is damaged; copy or download the model again")
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
