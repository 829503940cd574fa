# ruff: noqa: E501 - messages in one piece
"""Synthetic data sets and procedural images as sources, their groups, and one codec for both kinds of image."""

import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic_folders import picture, variations_of, write_set
from tiny_images import write_images

from syn2co.core.errors import DataError
from syn2co.data.codec import Codec, differences
from syn2co.data.on_the_fly import with_size
from syn2co.data.open import open_images
from syn2co.images.identity import HASHED, group_id

IMAGES = [picture(number) for number in range(10)]
CLASSES = ["dog", "cat", None] * 3 + ["cat"]


def described(**line: object) -> list[dict[str, object]]:
    return [{"class": name, "group": f"caption:{number // 2}", **line} for number, name in enumerate(CLASSES)]


# --- data sets --------------------------------------------------------------------------------------------------


def test_a_data_set_is_read_with_its_classes_and_groups(tmp_path):
    images = open_images(write_set(tmp_path / "set", IMAGES, described(labels="used")))
    assert len(images) == 10 and images.classes == ("cat", "dog")
    for index in range(10):
        np.testing.assert_array_equal(images.read(index), IMAGES[index])
        assert images.name(index) == f"0:{index:032x}.png"
        label = int(images.labels[index])
        assert (None if label < 0 else images.classes[label]) == CLASSES[index]
        assert images.groups[index] == group_id(f"caption:{index // 2}") >= HASHED
    assert len(set(images.groups.tolist())) == 5
    (source,) = images.synthetic_sources
    assert source.labels_used and source.made_by == ("by hand",)
    assert source.licenses == {"by hand": ("CC0-1.0",)}
    assert images.subset([7, 2]).groups.tolist() == images.groups[[7, 2]].tolist()


def test_a_folder_of_plain_images_is_no_data_set(tmp_path):
    folder = write_images(tmp_path / "images")
    (folder / "recipe.json").write_text("{}")
    images = open_images(folder)
    assert images.synthetic_sources == [] and images.groups.tolist() == list(range(26))


def test_the_fingerprint_depends_on_the_manifests_and_not_on_the_place(tmp_path):
    here, there = (write_set(tmp_path / name, IMAGES, described()) for name in ("here", "there"))
    other = write_set(tmp_path / "other", IMAGES, [{**line, "group": "x"} for line in described()])
    assert open_images(here).fingerprint == open_images(there).fingerprint != open_images(other).fingerprint


@pytest.mark.parametrize("linked", ["files", "folder"])
def test_a_set_of_links_into_a_store_is_the_same_set(linked, tmp_path):
    """As the hub's cache, git-annex and DVC keep files: under a hash, and linked from the folder."""
    plain = write_set(tmp_path / "plain", IMAGES, described())
    there, store = tmp_path / "set", tmp_path / "store"
    shutil.copytree(plain, store)
    if linked == "folder":
        there.symlink_to(store)
    else:
        there.mkdir()
        for number, path in enumerate(sorted(store.iterdir())):
            (there / path.name).symlink_to(path.rename(store / f"{number * 7919:032x}"))
    images, copied = open_images(there), open_images(plain)
    assert images.fingerprint == copied.fingerprint and images.labels.tolist() == copied.labels.tolist()
    for index in range(10):
        np.testing.assert_array_equal(images.read(index), IMAGES[index])
        assert images.name(index) == copied.name(index)


def test_a_set_that_grows_keeps_names_and_groups(tmp_path):
    small = open_images(write_set(tmp_path / "small", IMAGES[:4], described()[:4]))
    large = open_images(write_set(tmp_path / "large", IMAGES, described()))
    assert [small.key(index) for index in range(4)] == [large.key(index) for index in range(4)]
    assert small.groups.tolist() == large.groups[:4].tolist()


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


def move_line(root: Path) -> None:
    """Move a sealed line into another shard's manifest."""
    first, second = ((root / f"00000{number}.jsonl").read_text().splitlines(True) for number in (0, 1))
    (root / "000000.jsonl").write_text("".join([*first[:3], second[0]]))


def only_begun(root: Path) -> None:
    """Leave nothing but the recipe and a shard under its temporary name."""
    (root / "000000.tar").rename(root / ".000000.tar.tmp")
    for path in [*root.glob("[0-9]*.tar"), *root.glob("[0-9]*.jsonl")]:
        path.unlink()


BROKEN = {
    "edited": (lambda root: edit(root / "000001.jsonl", "cat", "dog"), r"set/000001.jsonl: line \d was changed after it was written .*; `syn2co verify set` lists what is damaged; delete 000001.jsonl and run `syn2co generate` again"),
    "torn": (lambda root: (root / "000001.jsonl").write_text((root / "000001.jsonl").read_text()[:-9]), r"set/000001.jsonl: line 4 is torn; `syn2co verify set`"),
    "a line cut off": (lambda root: (root / "000002.jsonl").write_text((root / "000002.jsonl").read_text().splitlines(True)[0]), r"set/000002.jsonl: it has 1 lines and 000002.tar has 2 images"),
    "a line twice": (lambda root: (root / "000002.jsonl").write_text(2 * (root / "000002.jsonl").read_text().splitlines(True)[0]), r"set/000002.jsonl: line 2 is of image 0+8, which 000002.tar does not hold once"),
    "of another shard": (move_line, r"set/000000.jsonl: line 4 is of image 0+4, which 000000.tar does not hold once"),
    "no manifest": (lambda root: (root / "000001.jsonl").unlink(), r"1 of 3 shards are not finished \(the first without both .tar and .jsonl is 000001\); run its `syn2co generate` again"),
    "no tar": (lambda root: (root / "000002.tar").unlink(), r"1 of 3 shards are not finished .* is 000002\)"),
    "a shard that is not made yet": (lambda root: [(root / f"000002.{kind}").unlink() for kind in ("tar", "jsonl")], r"1 of 3 shards are not finished .* is 000002\)"),
    "the first shard in the making": (only_begun, r"3 of 3 shards are not finished .* is 000000\)"),
    "grown": (lambda root: edit(root / "recipe.json", '"count": 10', '"count": 12'), r"set/000002.jsonl: it has 2 lines and recipe.json plans 4 images of this shard, so the set is not finished; run the same `syn2co generate` again"),
    "recipe": (lambda root: (root / "recipe.json").write_text("{"), r"set/recipe.json: is damaged \(it is not JSON .*\); restore it"),
}  # fmt: skip


@pytest.mark.parametrize("change", BROKEN)
def test_a_set_that_is_unfinished_or_was_changed_is_refused(change, tmp_path):
    root = write_set(tmp_path / "set", IMAGES, described())
    spoil, sentence = BROKEN[change]
    spoil(root)
    with pytest.raises(DataError, match=sentence):
        open_images(root)


def test_a_set_is_as_long_as_planned_less_what_was_skipped(tmp_path):
    from syn2co.synthesis.sets.manifest import seal

    root = write_set(tmp_path / "set", IMAGES, described())
    edit(root / "recipe.json", '"count": 10', '"count": 12')
    lines = [seal({"index": index, "id": "x", "subject": "", "k": index, "reason": "black"}) for index in (10, 11)]
    (root / "skipped.jsonl").write_text("".join(line + "\n" for line in lines))
    assert len(open_images(root)) == 10
    (root / "skipped.jsonl").write_text(lines[0] + "\n")
    with pytest.raises(DataError, match=r"set/000002.jsonl: it has 2 lines and recipe.json plans 3 images"):
        open_images(root)


def test_a_line_that_lacks_a_key_is_refused(tmp_path):
    from syn2co.synthesis.sets.manifest import seal

    root = write_set(tmp_path / "set", IMAGES[:1], described()[:1])
    line = json.loads((root / "000000.jsonl").read_text())
    line = {key: value for key, value in line.items() if key not in ("check", "group")}
    (root / "000000.jsonl").write_text(seal(line) + "\n")
    with pytest.raises(DataError, match=r"set/000000.jsonl: line 1 lacks what every line must have \('group'\)"):
        open_images(root)


def test_what_generate_writes_is_read(tmp_path):
    """The real writer, and the same images drawn on the fly."""
    from syn2co.synthesis.generation.generate import generate
    from syn2co.synthesis.sets.settings import SynthesisSettings

    settings = SynthesisSettings.parse({"options": {"program": "spectrum"}, "size": 16, "work": {"shard_size": 3}})
    generate(settings, tmp_path / "set", count=7, progress=False)
    stored, drawn = open_images(tmp_path / "set"), open_images("procedural:spectrum:7:16")
    at = {stored.name(index): index for index in range(7)}
    assert len(stored) == len(drawn) == len(at) == 7
    for index in range(7):
        other = at[drawn.name(index)]
        np.testing.assert_array_equal(drawn.read(index), stored.read(other))
        assert drawn.groups[index] == stored.groups[other] >= HASHED


# --- groups -----------------------------------------------------------------------------------------------------


def test_variations_are_of_the_group_of_their_real_image(tmp_path, image_folder):
    images = open_images([image_folder, variations_of(tmp_path / "set", image_folder, 2)])
    real, synthetic = images.groups[:26], images.groups[26:]
    assert real.tolist() == list(range(26)) and sorted(synthetic.tolist()) == sorted([*range(26)] * 2)
    for index in range(26, 78):
        apart = images.read(index).astype(int) - images.read(int(images.groups[index]))
        assert 0 < np.abs(apart).max() <= 12, "of that image indeed"


def test_variations_of_images_of_another_run_have_a_group_of_their_own(tmp_path, image_folder):
    folder = variations_of(tmp_path / "set", image_folder, 2)
    other = write_images(tmp_path / "other", seed=1)
    groups = open_images([other, folder]).groups
    assert groups[:26].tolist() == list(range(26)) and (groups[26:] >= HASHED).all()
    assert all((groups[26:] == group).sum() == 2 for group in groups[26:]), "but still one for all of a source"
    assert groups[26:].tolist() == open_images([folder]).groups.tolist()


def test_variations_of_synthetic_images_are_of_their_group(tmp_path, image_folder):
    """Of captions, and of variations of real images, in whatever order they are given."""
    captions = write_set(tmp_path / "captions", IMAGES, described())
    varied = variations_of(tmp_path / "varied", captions, 2)
    images = open_images([captions, varied])
    assert images.groups[10:].tolist() == 2 * images.groups[:10].tolist() and images.variations() == (20, 0)
    once = variations_of(tmp_path / "once", image_folder, 1)
    twice = variations_of(tmp_path / "twice", once, 1)
    groups = open_images([twice, image_folder, once]).groups
    assert groups.tolist() == 3 * list(range(26, 52))


def test_a_renamed_source_image_is_found_if_no_other_has_its_content(tmp_path, image_folder):
    varied = variations_of(tmp_path / "set", image_folder, 1)
    folder = shutil.copytree(image_folder, tmp_path / "renamed")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        path.rename(path.with_name("other " + path.name))
    images = open_images([folder, varied])
    assert images.groups[26:].tolist() == list(range(26)) and images.variations() == (26, 0)
    first = paths[0].with_name("other " + paths[0].name)
    shutil.copy(first, first.with_name("twice" + first.suffix))
    images = open_images([folder, varied])
    assert (images.groups[27:] >= HASHED).sum() == 1 and images.variations() == (26, 1)


def test_source_images_are_found_by_content_only_after_a_check(tmp_path, image_folder):
    folder = variations_of(tmp_path / "set", image_folder, 1)
    with pytest.raises(DataError, match="data.check = false: the source images of variations can be found"):
        open_images([image_folder, folder], check=False)
    assert (open_images([folder], check=False).groups >= HASHED).all()


def test_a_synthetic_source_without_a_manifest_has_groups_of_its_own(tmp_path, image_folder):
    images = open_images([image_folder, write_images(tmp_path / "plain", 5)])
    assert images.groups.tolist() == list(range(31))


# --- on the fly -------------------------------------------------------------------------------------------------


def test_procedural_images_need_no_storage_no_check_and_no_cache(image_folder):
    images = open_images(["procedural:leaves:1000:16", image_folder], cache="always")
    assert len(images) == 1026 and not images.cached, "so that workers draw them"
    assert images.read(5).shape == (16, 16, 3) and images.read(1005).shape == (20, 24, 3)
    np.testing.assert_array_equal(images.read(5), images.read(5))
    copy = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(copy.read(7), images.read(7))
    assert len({images.read(index).tobytes() for index in range(20)}) == 20
    assert len(set(images.groups.tolist())) == 1026 and (images.groups[:1000] >= HASHED).all()
    assert all(images.read(index).shape == (20, 24, 3) for index in range(1000, 1026))
    assert images.nbytes_cache == 26 * 20 * 24 * 3


def test_the_fingerprint_of_procedural_images_is_that_of_their_recipe():
    prints = [
        open_images(f"procedural:{spec}").fingerprint
        for spec in ("leaves:9:16", "leaves:9:16", "leaves:8:16", "leaves:9:32", "warps:9:16")
    ]
    assert prints[0] == prints[1] and len(set(prints)) == 4


def test_sizes_of_procedural_sources_follow_the_views():
    specs = ["photos", "procedural:leaves", "procedural:mix:500", "procedural:mix:500:64", "a/procedural:x"]
    expected = [
        "photos",
        "procedural:leaves:100000:32",
        "procedural:mix:500:32",
        "procedural:mix:500:64",
        "a/procedural:x",
    ]
    assert with_size(specs, 32) == expected


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ("leafs", r"procedural:leafs: there is no program 'leafs'; did you mean leaves\?; known are mix, leaves, spectrum, fractals, warps, blend"),
        ("leaves:many", r"procedural:leaves:many: must look like procedural:PROGRAM:COUNT:SIZE with whole numbers, such as"),
        ("leaves:10:16:3", r"procedural:leaves:10:16:3: must look like"),
        ("leaves:0", r"procedural:leaves:0: needs at least 1 image of at least 8 pixels; raise the numbers"),
        ("leaves:999999999999999:32", r"procedural:leaves:999999999999999:32: must be at most 10,000,000 images"),
        ("leaves:10:4", r"procedural:leaves:10:4: needs at least 1 image of at least 8 pixels"),
    ],
)  # fmt: skip
def test_procedural_sources_that_cannot_be(spec, sentence):
    with pytest.raises(DataError, match=sentence):
        open_images(f"procedural:{spec}")


def test_the_same_procedural_images_twice_are_refused():
    with pytest.raises(DataError, match="procedural:leaves:16: this source is given twice; name it once"):
        open_images(["procedural:leaves:10:16", "procedural:leaves:20:16"])


# --- one codec --------------------------------------------------------------------------------------------------


def test_every_image_passes_through_the_same_resize_and_jpeg():
    image = picture(0, size=40)[:, :30]
    assert Codec()(image) is image
    assert Codec(canvas=24)(image).shape == (24, 24, 3)
    again = Codec(jpeg_quality=50)(image)
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    np.testing.assert_array_equal(again, decoded[..., ::-1])
    assert np.abs(again.astype(int) - image).mean() > 5
    both = Codec(24, 50)(image)
    np.testing.assert_array_equal(both, Codec(jpeg_quality=50)(Codec(canvas=24)(image)))


def test_what_a_network_could_read_off_the_files_is_named(tmp_path, image_folder):
    jpegs = tmp_path / "jpegs"
    jpegs.mkdir()
    for number in range(3):
        cv2.imwrite(str(jpegs / f"{number}.jpg"), picture(number, size=32))
    sources = [image_folder, jpegs]
    images = open_images(sources)
    formats, sizes = "formats (lossless against jpeg)", "sizes (20 x 24 against 32 x 32)"
    assert differences(images, 26, Codec()) == [formats, sizes]
    assert differences(images, 26, Codec(canvas=16)) == [formats]
    assert differences(images, 26, Codec(jpeg_quality=90)) == [sizes]
    assert differences(images, 26, Codec(16, 90)) == []
    same = open_images([image_folder, write_images(tmp_path / "same", 5)])
    assert differences(same, 26, Codec()) == []
