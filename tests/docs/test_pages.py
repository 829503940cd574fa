"""The pages of the documentation: Python blocks run, commands exist with their options, links lead somewhere."""

from pathlib import Path

import pytest
from pages import (
    GENERATED,
    PAGES,
    blocks,
    broken_links,
    check_command,
    commands,
    name,
    run_python,
    unknown_names,
    unknown_settings,
)

WRITTEN = [page for page in PAGES if GENERATED not in page.parents]


@pytest.mark.parametrize("page", [page for page in WRITTEN if blocks(page, "python")], ids=name)
@pytest.mark.usefixtures("few_patches")
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_python(page)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=name)
def test_commands_take_what_the_page_gives_them(page: Path) -> None:
    for words in commands(page):
        check_command(words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", [page for page in WRITTEN if page.name != "CHANGELOG.md"], ids=name)
def test_names_in_backticks_exist(page: Path) -> None:
    assert unknown_names(page) == []


@pytest.mark.parametrize("page", [page for page in WRITTEN if page.name != "CHANGELOG.md"], ids=name)
def test_settings_in_backticks_exist(page: Path) -> None:
    assert unknown_settings(page) == []


def test_a_wrong_page_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks can fail: a wrong option, setting, recipe and link are found, whatever stands around a command."""
    with pytest.raises(AssertionError, match="pretrain has no --images"):
        check_command(["pretrain", "--images", "photos"])
    with pytest.raises(Exception, match="queue.siez: there is no such setting"):
        check_command(["pretrain", "--recipe", "demo", "--out", "runs/a", "--set", "queue.siez=1"])
    with pytest.raises(Exception, match="options.clusterz: there is no such setting"):
        check_command(["generate", "--generator", "fitted", "--out", "runs/a", "--set", "options.clusterz=1"])
    with pytest.raises(Exception, match="there is no such recipe"):
        check_command(["pretrain", "--recipe", "synco-deit-x", "--out", "runs/a"])
    scores = ["--train", "labeled/train", "--test", "labeled/test"]
    with pytest.raises(AssertionError, match="no protocol is called knnn"):
        check_command(["evaluate", "runs/a", *scores, "--protocols", "knnn"])
    study = ["study", "small", "--real", "photos", *scores, "--out", "runs/a"]
    for words, setting in (
        (["evaluate", "runs/a", *scores, "--set"], "robustness.max_image"),
        ([*study, "--evaluation"], "robustness.max_image"),
        ([*study, "--set"], "training.step"),
        (["estimate", "demo", "--set"], "training.step"),
    ):
        with pytest.raises(Exception, match=f"{setting}: there is no such setting"):
            check_command([*words, f"{setting}=1"])
    page = tmp_path / "page.md"
    page.write_text("`syn2co.audit`, `syn2co.audt`, `syn2co.objective.negatives.mixup`, `test_nothing_of_this_name`\n")
    assert unknown_names(page) == ["syn2co.audt", "test_nothing_of_this_name"]
    page.write_text(
        "`queue.size=64`, `queue.length`, `--set mix.rato=0.5`, `mix.json`, `encoder.options.depth=1`, `data.views`\n"
    )
    assert unknown_settings(page) == ["queue.length", "mix.rato"]
    page.write_text(
        '```sh\nA=1 syn2co demo; torchrun -m syn2co doctor \\\n  x\nsbatch --wrap "syn2co recipes"  # why\n```\n'
    )
    assert list(commands(page)) == [["demo"], ["doctor", "x"], ["recipes"]]
    monkeypatch.setattr("pages.ROOT", tmp_path)
    page.write_text("## One: two\n[a](#one-two) [b](page.md#one) [c](gone.md) [d](https://example.org)\n")
    assert broken_links(page) == ["page.md#one", "gone.md"]
