"""Sets that version 0.1 wrote, which spelled license as licence, are read, left alone when complete, and grow."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from synthesis_sets import settings, write_generator

from syn2co.core.errors import SynthesisError
from syn2co.synthesis.generation.generate import generate
from syn2co.synthesis.generation.verify import verify
from syn2co.synthesis.sets.dataset_folder import read_recipe
from syn2co.synthesis.sets.manifest import make_line, seal, unseal
from syn2co.synthesis.sets.settings import SynthesisSettings, load_settings
from syn2co.synthesis.sets.shards import read_shard
from syn2co.synthesis.sets.spec import Generator


@pytest.fixture
def old_set(tmp_path: Path) -> tuple[SynthesisSettings, Path]:
    """A set of seven images in two shards whose files say licence, sealed as they were."""
    own, folder = settings(write_generator(tmp_path), work={"shard_size": 4}), tmp_path / "set"
    generate(own, folder, count=7)
    for manifest in folder.glob("[0-9]*.jsonl"):
        texts = {line["id"]: _old(line) for line in map(unseal, manifest.read_text().splitlines())}
        manifest.write_text("".join(text + "\n" for text in texts.values()))
        members = [(member.name, member.kind, member.read()) for member in read_shard(manifest.with_suffix(".tar"))]
        with tarfile.open(manifest.with_suffix(".tar"), "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, kind, data in members:
                data = texts[name].encode() if kind == "json" else data
                header = tarfile.TarInfo(f"{name}.{kind}")
                header.size, header.mode = len(data), 0o644
                tar.addfile(header, io.BytesIO(data))
    return own, folder


def _old(line: dict[str, Any]) -> str:
    rest = {key: value for key, value in line.items() if key not in ("check", "license")}
    return seal({**rest, "licence": line["license"]})


def test_a_complete_set_is_left_as_it_is(old_set) -> None:
    own, folder = old_set
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("0*")}
    assert verify(folder).valid
    done = generate(own, folder, count=7)
    assert done.made == 0 and done.complete
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("0*")} == before


def test_a_set_that_grows_keeps_its_finished_shard(old_set) -> None:
    own, folder = old_set
    first = (folder / "000000.tar").read_bytes()
    assert generate(own, folder, count=9).complete and verify(folder).valid
    assert (folder / "000000.tar").read_bytes() == first
    assert "licence" in (folder / "000000.jsonl").read_text() and "license" in (folder / "000002.jsonl").read_text()


def test_a_recipe_that_spells_licence_is_read(old_set) -> None:
    _, folder = old_set
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["options"]["licence"] = "mit"
    (folder / "recipe.json").write_text(json.dumps(recipe))
    saved = read_recipe(folder)
    assert saved is not None and saved["options"]["license"] == "mit" and "licence" not in saved["options"]
    assert load_settings(folder / "recipe.json").options["license"] == "mit"


def test_a_generator_that_still_says_licence_is_told(old_set) -> None:
    from syn2co.synthesis.sets.job import make_job

    generator = Generator(lambda jobs: [], {"licence": "mit"})
    with pytest.raises(SynthesisError, match="notes licence, which manifests spell license; rename that"):
        make_line(make_job("hash", "", 0), generator, {}, {})
