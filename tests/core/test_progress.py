"""Progress where the output is no terminal: a line now and then, silence if not wanted, the last state at the end."""

import pytest

from syn2co.core.progress import Bar, Stages
from syn2co.pretraining.metrics import training_text


def test_a_log_file_gets_a_line_at_the_end_with_time_and_eta(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("work", 4, show=True, quiet_seconds=1000) as bar:
        bar.advance(2, "half")
        bar.advance(2, "all")
    assert capsys.readouterr().err.startswith("work 4/4 all elapsed 0:00:0")


def test_often_enough_lines_while_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("work", 3, show=True, quiet_seconds=0) as bar:
        bar.advance()
        bar.advance()
    assert [line.split(" ")[1] for line in capsys.readouterr().err.splitlines()] == ["1/3", "2/3", "2/3"]


def test_a_quiet_bar_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("work", 1, show=False) as bar:
        bar.advance()
        bar.say("hello")
    assert capsys.readouterr().err == ""


def test_stages_show_one_bar_each(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages(show=True) as stages:
        stages.report("index", 5, 0)
        stages.report("check", 1, 2)
        stages.report("check", 2, 2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ")[:2] for line in lines] == [["index", "5/5"], ["check", "2/2"]]


def test_the_training_line_names_the_uninformative_level() -> None:
    record = {"epoch": 1.5, "loss": 17.0, "real_loss": 15.25, "uninformative": 16.64, "images_per_second": 99.6}
    text = training_text({**record, "data_wait": 0.256})
    assert text == "epoch 1.50  loss 17.00, real 15.25 (line 16.64)  100 img/s  data 26 %"
