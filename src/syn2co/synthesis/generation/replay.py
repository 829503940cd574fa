"""One image of a data set made again from its id, and compared to the one that is stored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from syn2co.core.errors import ConfigError, SynthesisError
from syn2co.core.files import write_whole
from syn2co.core.json_files import JsonError, JsonObject, read_json
from syn2co.core.paths import user_path
from syn2co.images.decode import decode
from syn2co.synthesis.generation.encode import encode
from syn2co.synthesis.generation.generator_factory import open_generator_for
from syn2co.synthesis.generation.locks import writing_to
from syn2co.synthesis.generation.plan import open_real
from syn2co.synthesis.generators.registry import load_generator
from syn2co.synthesis.sets.dataset_folder import MODEL, RECIPE, check_metadata, read_recipe
from syn2co.synthesis.sets.job import Job, make_job
from syn2co.synthesis.sets.manifest import mismatch, read_lines
from syn2co.synthesis.sets.recipe import Recipe, resolve
from syn2co.synthesis.sets.settings import SET, SynthesisSettings, settings_of_recipe
from syn2co.synthesis.sets.shards import stem, stored_images
from syn2co.synthesis.sets.spec import Generator, Skipped, refuse_unnamed_file

if TYPE_CHECKING:
    from syn2co.images.image_set import ImageSet

LEARNED = {"fitted": "fitted.safetensors", "flow": "flow.safetensors"}
"""Files of models that generators fit or train when they lack them."""
TOLERANCE = 1
"""Of 255, where a generator is not exact."""


@dataclass(frozen=True)
class Replay:
    """An image made again."""

    id: str
    same: bool
    """The same file, or for generators that are not exact the same image within 1/255."""
    identical: bool
    """The same file, byte for byte."""
    difference: int
    """Largest difference of a pixel's channel, of 255."""
    versions: tuple[str, ...]
    """Packages whose version changed since the image was stored."""
    png: bytes
    """The image made now, as a PNG file."""

    def text(self) -> str:
        """Return the outcome in one line."""
        changed = f"; since then changed {', '.join(self.versions)}" if self.versions else ""
        if self.identical:
            return f"{self.id}: the same file, byte for byte{changed}"
        verdict = "the same" if self.same else "NOT the same"
        return f"{self.id}: {verdict}, the largest difference is {self.difference}/255{changed}"


def replay(
    out: str | Path,
    id: str,
    *,
    real: "str | Path | Sequence[str | Path] | ImageSet" = (),
    generator: str | None = None,
    settings: str | Iterable[str] = (),
    to: str | Path | None = None,
) -> Replay:
    """Make one image of a data set again, and return its comparison to the stored one.

    Args:
        out: data set folder; nothing is written there.
        id: 32 hex digits, from a manifest line, a file name in a shard, or `Job.id`.
        real: sources of the real images, if the image is a variation of one of them.
        generator: where a user's own function lies now; its file must not have changed. A file that the set names is
            not run.
        settings: assignments that say where a local model lies now; they must not change the recipe's hash.
        to: file for the image made now, NAME.png; None writes none.

    Returns:
        The comparison; exact generators must give the same file, others the same image within 1/255.

    Raises:
        SynthesisError: if the folder is no data set, has no such image, the image cannot be made, or `to` is no PNG.
        ConfigError: if the generator, its model or the settings are not those of the set.

    Example:
        >>> settings = syn2co.SynthesisSettings(size=16)
        >>> info = syn2co.generate(settings, "leaves", count=4)
        >>> replay(info.folder, syn2co.plan(settings, count=4)[3].id).identical
        True
    """
    _refuse_other_suffix(to)
    folder = user_path(out)
    saved = read_recipe(folder)
    if saved is None:
        raise SynthesisError(f"{folder.name}: holds no {RECIPE}, so it is no data set of syn2co; correct the path")
    shard, line = _find(folder, saved, id)
    values = settings_of_recipe(saved)
    if generator is None:
        refuse_unnamed_file(str(saved["generator"]), folder.name)
    chosen = SynthesisSettings.parse(values | ({"generator": generator} if generator else {})).with_settings(settings)
    chosen = chosen.with_settings(["work.allow_unknown_license=true", f"work.retry_skipped={line.get('attempt') or 0}"])
    images = open_real(real, chosen)
    recipe = resolve(chosen, load_generator(chosen.generator), saved[SET]["real"])
    if recipe.hash != saved["hash"]:
        raise ConfigError(
            f"{folder.name}: was made with another {'file' if recipe.generator.code else 'setting'} of the generator "
            f"{recipe.generator.name} than is given now; give that one (--generator, --set)"
        )
    job = _job(saved["hash"], line)
    complaint = mismatch(line, job, saved[SET]["facts"])
    if complaint is not None:
        raise SynthesisError(f"{folder.name}: image {id} {complaint}; run `syn2co verify`")
    runner = open_generator_for(_with_model(folder, recipe), recipe, images, progress=False)[1]
    check_metadata(folder, saved, runner.generator.metadata, "give the model and the settings of the set")
    made = runner.make([job])[0]
    if isinstance(made, Skipped):
        raise SynthesisError(f"job {id}: is in the set and is skipped now ({made.reason})")
    data, png = (encode(made.image, kind, chosen.quality) for kind in (chosen.format, "png"))
    if to is not None:
        with writing_to(user_path(to)):
            write_whole(user_path(to), png)
    try:
        stored = stored_images(folder / f"{stem(shard)}.tar", [id], chosen.format)[id]
    except (ValueError, OSError) as error:
        raise SynthesisError(f"{folder.name}/{error}; run `syn2co verify`") from None
    return _compare(line, data, stored, runner.generator, chosen.format, png)


def _refuse_other_suffix(to: str | Path | None) -> None:
    """Refuse a file for the image whose name is not that of a PNG."""
    if to is not None and not str(to).lower().endswith(".png"):
        raise SynthesisError(f"{user_path(to).name}: is the name of no PNG; give the file a name that ends in .png")


def _with_model(folder: Path, recipe: Recipe) -> Path | None:
    """Return the folder if its model is to be read, None if there is none; a replay never fits or trains one.

    Raises:
        SynthesisError: if the model of a generator that learns is not there, or not finished.
    """
    file = LEARNED.get(recipe.generator.name)
    model = folder / MODEL
    if file is None:
        return folder if model.is_dir() else None
    if not (model / file).exists() or not _finished(model / "flow.json"):
        raise SynthesisError(
            f"{folder.name}/{MODEL}/{file}: is missing or not finished and a replay trains no model; restore the "
            f"folder {MODEL} of the set"
        )
    return folder


def _finished(description: Path) -> bool:
    """Return whether a flow, if it is one, is past its training; damage is left to the generator to tell."""
    try:
        return read_json(description, JsonObject)["model"] is not None
    except (OSError, JsonError, KeyError):
        return True


def _find(folder: Path, saved: dict[str, Any], id: str) -> tuple[int, dict[str, Any]]:
    """Return the shard and the manifest line of an image."""
    about = saved[SET]
    for number in range(-(-about["count"] // about["shard_size"])):
        path = folder / f"{stem(number)}.jsonl"
        try:
            for line in read_lines(path) if path.exists() else ():
                if line["id"] == id:
                    return number, line
        except ValueError as error:
            raise SynthesisError(f"{folder.name}/{error}; run `syn2co verify`") from None
    raise SynthesisError(f"{folder.name}: has no image {id}; ids are 32 hex digits, in the manifests")


def _job(recipe_hash: str, line: dict[str, Any]) -> Job:
    job = make_job(
        recipe_hash,
        line["subject"],
        line["k"],
        group=line["group"],
        class_name=line["class"],
        prompt=line["prompt"],
        source=line["source"],
    )
    if job.id != line["id"]:
        raise SynthesisError(f"job {line['id']}: does not follow from the recipe; run `syn2co verify`")
    return job


def _compare(line: dict[str, Any], data: bytes, stored: bytes, generator: Generator, kind: str, png: bytes) -> Replay:
    identical = sha256(data).hexdigest() == line["sha256"]
    # Files of lossy formats may differ by several levels after a last-bit difference of the pixels: their mean is asked
    difference = np.abs(decode(data).astype(int) - decode(stored).astype(int))
    near = difference.max() <= TOLERANCE if kind == "png" else difference.mean() <= TOLERANCE
    now, then = generator.metadata.get("versions") or {}, line["versions"] or {}
    changed = tuple(f"{n} {then.get(n)} -> {now.get(n)}" for n in sorted(then) if now.get(n) != then[n])
    same = identical or bool(not generator.exact and near)
    return Replay(line["id"], same, identical, int(difference.max()), changed, png)
