"""ImageNet-A, -R, -Sketch and -V2 as tiny folders: classes matched by WordNet id, what is left out counted."""

import json
from pathlib import Path

import pytest
import torch
from tiny_images import picture

from syn2co.core.errors import DataError, EvaluationError
from syn2co.evaluation.imagenet_classes import imagenet_classes, read_class_list
from syn2co.evaluation.imagenet_variants import IMAGENET_VARIANTS, find_variants, robust_set

IN_1K = imagenet_classes()
IN_A, IN_R = imagenet_classes("imagenet-a"), imagenet_classes("imagenet-r")
ONLY_1K = [name for name in IN_1K if name not in IN_A and name not in IN_R]


def write(folder: Path, counts: dict[str, int]) -> Path:
    """Write `counts[class]` images into each class folder; the gray value is the position of the class."""
    for value, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture(value).save(folder / name / f"{number}.png")
    return folder


def test_class_lists_are_subsets_of_imagenet_1k() -> None:
    assert (len(IN_1K), len(IN_A), len(IN_R)) == (1_000, 200, 200)
    assert list(IN_1K) == sorted(IN_1K)
    assert set(IN_A) <= set(IN_1K) and set(IN_R) <= set(IN_1K)
    with pytest.raises(DataError, match="imagenet-b: the installed timm has no list of its classes"):
        imagenet_classes("imagenet-b")


def test_labels_and_columns_are_those_of_the_head(tmp_path: Path) -> None:
    """By hand: a head of four classes in an order of its own, two of them in ImageNet-A, three folders on disk."""
    folder = write(tmp_path / "imagenet-a", {IN_A[0]: 2, IN_A[1]: 3, IN_A[2]: 4})
    (folder / "README.txt").write_text("no image")
    picture(9).save(folder / "stray.png")
    head = [ONLY_1K[1], IN_A[2], ONLY_1K[0], IN_A[0]]
    found = robust_set("imagenet-a", folder, head)
    assert found.images.labels.tolist() == [3] * 2 + [1] * 4 and found.images.classes == tuple(head)
    assert [int(found.images.read(row)[0, 0, 0]) for row in range(6)] == [0] * 2 + [2] * 4
    assert found.columns == (1, 3) and found.rule == "the head chooses among 2 of its 4 classes"
    assert found.notes == (
        "imagenet-a: 2 of the 4 classes, 6 images",
        "imagenet-a: 3 images of 1 classes that the head does not know are left out",
        "imagenet-a: 1 images outside any class folder are left out",
        "imagenet-a: the folder has 10 of the 7,500 published images",
        "imagenet-a: the head chooses among 2 of its 4 classes",
    )


def test_predictions_are_restricted_to_the_columns(tmp_path: Path) -> None:
    found = robust_set("imagenet-a", write(tmp_path / "a", {IN_A[0]: 1}), [ONLY_1K[0], IN_A[0], IN_A[5]])
    logits = torch.tensor([[9.0, 1.0, 2.0], [9.0, 3.0, 2.0]])
    assert found.predict(logits).tolist() == [2, 1]
    with pytest.raises(EvaluationError, match="imagenet-a: the head gives logits that are not numbers; train it again"):
        found.predict(torch.tensor([[0.0, float("nan"), 1.0]]))


def test_a_head_of_imagenet_1k_chooses_among_the_200_published_classes(tmp_path: Path) -> None:
    """The rule of the field, also where the folder has few of the 200 classes."""
    for name, published in (("imagenet-a", IN_A), ("imagenet-r", IN_R)):
        found = robust_set(name, write(tmp_path / name, {published[7]: 1}), IN_1K)
        assert [IN_1K[column] for column in found.columns] == list(published)
        assert found.images.labels.tolist() == [IN_1K.index(published[7])]
    sketch = robust_set("imagenet-sketch", write(tmp_path / "top" / "sketch", {IN_1K[3]: 1, IN_1K[4]: 1}), IN_1K[2:5])
    assert sketch.columns == (0, 1, 2) and sketch.images.labels.tolist() == [1, 2]
    assert sketch.notes[0] == "imagenet-sketch: 2 of the 3 classes, 2 images"


def test_v2_folders_are_numbers_and_not_ranks_of_their_names(tmp_path: Path) -> None:
    """As texts, "10" comes before "2": a loader that numbers sorted folders would give both the wrong class."""
    folder = write(tmp_path / "imagenetv2-top-images-format-val", {"10": 1, "2": 2, "999": 1})
    found = robust_set("imagenet-v2-top-images", folder, IN_1K)
    labels = {int(found.images.read(row)[0, 0, 0]): int(found.images.labels[row]) for row in range(4)}
    assert labels == {0: 10, 1: 2, 2: 999} and len(found.columns) == 1_000
    by_id = write(tmp_path / "imagenet100-v2-top-images", {IN_1K[10]: 1, IN_1K[2]: 1})
    assert robust_set("imagenet-v2-top-images", by_id, IN_1K).images.labels.tolist() == [2, 10]


def test_broken_images_are_counted(tmp_path: Path) -> None:
    folder = write(tmp_path / "imagenet-r", {IN_R[0]: 2, IN_R[1]: 1})
    (folder / IN_R[0] / "cut.png").write_bytes(b"\x89PNG")
    found = robust_set("imagenet-r", folder, IN_R[:2], max_broken_share=0.5)
    assert "imagenet-r: 1 broken images are left out" in found.notes and len(found.images) == 3


def test_wrong_layouts_are_refused(tmp_path: Path) -> None:
    colors = write(tmp_path / "colors", {"red": 1, "blue": 1})
    with pytest.raises(
        DataError, match=r"2 of 2 class folders \(blue, red\) are none of the 200 classes of imagenet-a"
    ):
        robust_set("imagenet-a", colors, IN_1K)
    (tmp_path / "flat").mkdir()
    picture(1).save(tmp_path / "flat" / "1.png")
    with pytest.raises(DataError, match=r"0 of 0 class folders .* are none of the 1,000 classes of imagenet-sketch"):
        robust_set("imagenet-sketch", tmp_path / "flat", IN_1K)
    with pytest.raises(DataError, match="numbers/?: the class folder 1000 is above 999, ImageNet-V2's last"):
        robust_set("imagenet-v2-top-images", write(tmp_path / "numbers", {"5": 1, "1000": 1}), IN_1K)
    with pytest.raises(DataError, match="folders 0 to 2 may number the classes of a subset or the first of all 1,000"):
        robust_set("imagenet-v2-top-images", write(tmp_path / "subset", {"0": 1, "1": 1, "2": 1}), IN_1K)
    with pytest.raises(DataError, match="1 of 1 class folders .* none of the 200 classes of imagenet-r"):
        robust_set("imagenet-r", write(tmp_path / "other", {ONLY_1K[0]: 1}), IN_1K)


def test_versions_of_v2_are_not_mixed_up(tmp_path: Path) -> None:
    folder = write(tmp_path / "imagenetv2-threshold0.7-format-val", {"3": 1})
    with pytest.raises(DataError, match="called as imagenet-v2-threshold-0.7 and was given as imagenet-v2-top-images"):
        robust_set("imagenet-v2-top-images", folder, IN_1K)
    with pytest.raises(DataError, match=r"imagenet-v2: there is no variant .* did you mean imagenet-v2-top-images.*\?"):
        robust_set("imagenet-v2", folder, IN_1K)


def test_heads_that_cannot_be_scored(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {IN_A[0]: 1})
    with pytest.raises(DataError, match=r"the head has 2 classes that are no WordNet id of ImageNet-1k \(cat, dog\)"):
        robust_set("imagenet-a", folder, [IN_A[0], "cat", "dog"])
    with pytest.raises(DataError, match="the classes of the head repeat themselves"):
        robust_set("imagenet-a", folder, [IN_A[0], IN_A[0]])
    with pytest.raises(EvaluationError, match="imagenet-a: the head knows 1 of its 200 classes, so a score would say"):
        robust_set("imagenet-a", folder, [IN_A[0], *ONLY_1K[:5]])
    with pytest.raises(
        EvaluationError, match="imagenet-a: none of the 1 images has a class of the head; give it a folder"
    ):
        robust_set("imagenet-a", folder, IN_A[1:4])


def test_variants_are_found_by_the_names_of_their_folders(tmp_path: Path) -> None:
    for name in ("ImageNet-A", "imagenet100-r", "sketch", "imagenetv2-matched-frequency-format-val", "photos"):
        (tmp_path / name).mkdir()
    found = find_variants(tmp_path)
    assert {name: path.name for name, path in found.have.items()} == {
        "imagenet-a": "ImageNet-A",
        "imagenet-r": "imagenet100-r",
        "imagenet-sketch": "sketch",
        "imagenet-v2-matched-frequency": "imagenetv2-matched-frequency-format-val",
    }
    assert found.missing == ("imagenet-v2-threshold-0.7", "imagenet-v2-top-images")
    assert all(find_variants(tmp_path).have.get(name) or name in found.missing for name in IMAGENET_VARIANTS)
    (tmp_path / "imagenet-sketch").mkdir()
    with pytest.raises(DataError, match="imagenet-sketch and sketch are both imagenet-sketch; keep one of them"):
        find_variants(tmp_path)
    with pytest.raises(DataError, match="gone: there is no such folder; give the one that holds imagenet-a"):
        find_variants(tmp_path / "gone")


@pytest.mark.parametrize(
    "text", ['["{1}", "{0}"]', '{{"{1}": "goldfish", "{0}": "tench"}}', "{1} goldfish\n\n{0}\ttench\n"]
)
def test_class_lists_in_three_layouts(tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_text(text.format(*IN_1K[:2]))
    assert read_class_list(tmp_path / "list") == IN_1K[:2]


def test_class_lists_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "Labels.json"
    with pytest.raises(DataError, match="Labels.json: this list of classes cannot be read .*No such file"):
        read_class_list(path)
    path.write_text("{broken")
    with pytest.raises(
        DataError, match="Labels.json: this list of classes cannot be read .*; give JSON or one id a line"
    ):
        read_class_list(path)
    path.write_text(json.dumps([IN_1K[0], "tench"]))
    with pytest.raises(DataError, match=r"1 of its 2 entries are no class of ImageNet-1k \(tench\)"):
        read_class_list(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="Labels.json: this list of classes is empty"):
        read_class_list(path)
