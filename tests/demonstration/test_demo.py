"""The demo, from the first command to its page, in a few steps instead of some hundred."""

import re
from pathlib import Path

import pytest

from syn2co.core.errors import ConfigError

SHORT = ("training.steps=4", "training.batch=16", "machine.tensorboard=false", "machine.threads=1")


@pytest.fixture(autouse=True)
def few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixteenth of the demo's training patches: scores are not what is tested."""
    from syn2co.images.sources import builtin

    monkeypatch.setitem(builtin.PATCHES, "train", 70)


def test_the_pretraining_half(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from syn2co.data.open import open_images
    from syn2co.demonstration.demo import demo
    from syn2co.demonstration.pretraining import PICTURES, TEST, TRAIN

    report = demo(tmp_path / "demo", pretrain_only=True, settings=SHORT, progress=False)
    assert {row.protocol for row in report.rows} == {"knn"}
    assert [row.encoder for row in report.rows] == ["syn2co", "raw pixels", "random init"]
    assert report.rows[0].n_test == len(open_images([TEST])) >= 1000
    assert report.rows[0].n_train == len(open_images([TRAIN])) == 16 * 70
    page = (tmp_path / "demo" / "demo.html").read_text()
    assert len(re.findall('src="data:image/png;base64,', page)) == len(PICTURES)
    assert str(tmp_path) not in page
    assert "trained for 4 steps without labels" in page
    assert f"{report.rows[0].value:.1f} %" in page
    assert "demo.html" in capsys.readouterr().out


def test_both_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic images are made, looked at and trained on; every cell of the grid has its score and its settings."""
    from syn2co.demonstration import faking
    from syn2co.demonstration.demo import demo
    from syn2co.pretraining.config import load_config

    monkeypatch.setattr(faking, "COUNT", 40)
    report = demo(tmp_path / "demo", settings=SHORT, progress=False)
    grid = ["real", "real+synthetic-negatives", "synthetic", "synthetic+synthetic-negatives"]
    grid += ["mixed", "mixed+synthetic-negatives"]
    assert [row.encoder for row in report.rows] == [*grid, "raw pixels", "random init"]
    for name in grid:
        config = load_config(tmp_path / "demo" / "runs" / name / "config.json")
        assert bool(config.negatives.total) == name.endswith("+synthetic-negatives")
        assert (bool(config.data.real), bool(config.data.synthetic)) == (
            not name.startswith("synthetic"), not name.startswith("real"),
        )  # fmt: skip
        assert (config.mix.ratio is not None) == name.startswith("mixed")
        assert config.mix.max_real == (80 if config.data.real else None)  # as many distinct images on either side
    page = (tmp_path / "demo" / "demo.html").read_text()
    assert len(re.findall('src="data:image/png;base64,', page)) == len(faking.PICTURES) + 1
    assert "Audit of the synthetic images" in page and (tmp_path / "demo" / "audit" / "audit.html").exists()
    gap = report.compare("real+synthetic-negatives", "real")
    assert f"Synthetic negatives, on real images: {gap.value:+.1f} points" in page
    assert str(tmp_path) not in page
    assert all((tmp_path / "demo" / "synthetic" / name / "000000.tar").exists() for name in faking.GENERATORS)


def test_an_unknown_setting_is_answered_with_the_nearest(tmp_path: Path) -> None:
    from syn2co.demonstration.demo import demo

    with pytest.raises(ConfigError, match=r"--set queue.sise: there is no such setting; did you mean queue.size\?"):
        demo(tmp_path, pretrain_only=True, settings=["queue.sise=3"])
