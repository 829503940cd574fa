"""The demo, from the first command to its page, in a few steps instead of some thousand."""

import re
from pathlib import Path

import pytest

from syn2co.errors import ConfigError

SHORT = ("training.steps=4", "training.batch=16", "machine.tensorboard=false", "machine.threads=1")


def test_the_whole_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from syn2co.demo import PICTURES, TEST, TRAIN, demo
    from syn2co.images import open_images

    report = demo(tmp_path / "demo", settings=SHORT, protocols=("knn",), progress=False)
    assert {row.protocol for row in report.rows} == {"knn"}
    assert len({row.encoder for row in report.rows}) == 3  # ours, raw pixels, random
    assert report.rows[0].n_test == len(open_images([TEST])) >= 1000
    assert report.rows[0].n_train == len(open_images([TRAIN])) == 4480
    page = (tmp_path / "demo" / "demo.html").read_text()
    assert len(re.findall('src="data:image/png;base64,', page)) == len(PICTURES)
    assert str(tmp_path) not in page
    assert "trained for 4 steps without labels" in page
    assert f"{report.rows[0].value:.1f} %" in page
    assert "demo.html" in capsys.readouterr().out


def test_an_unknown_setting_is_answered_with_the_nearest(tmp_path: Path) -> None:
    from syn2co.demo import demo

    with pytest.raises(ConfigError, match=r"--set queue.sise: there is no such setting; did you mean queue.size\?"):
        demo(tmp_path, settings=["queue.sise=3"])
