"""The command line shows the defaults of the library, although it must not import it for its help."""

import inspect

import click
import pytest

from syn2co.audits.settings import AuditSettings
from syn2co.cli.main import cli
from syn2co.core.settings import Settings
from syn2co.evaluation.settings import EvaluationSettings
from syn2co.reports.evaluation import evaluate


def _defaults(command: str) -> dict[str, object]:
    context = click.Context(cli.commands[command])
    return {option.name or "": option.get_default(context) for option in cli.commands[command].params}


@pytest.mark.parametrize(("command", "kind"), [("evaluate", EvaluationSettings), ("audit", AuditSettings)])
def test_every_setting_is_an_option_with_the_same_default(command: str, kind: type[Settings]) -> None:
    shown = _defaults(command)
    plain = {name: default for name, default in kind().model_dump().items() if name in shown}
    assert plain and {name: shown[name] for name in plain} == plain


def test_what_has_no_option_is_said_to_be_a_setting() -> None:
    """Groups of protocols and rare settings go through --set, which names every one of them."""
    missing = set(EvaluationSettings.model_fields) - set(_defaults("evaluate"))
    groups = {name for name, value in EvaluationSettings().model_dump().items() if isinstance(value, dict)}
    assert missing == groups | {"max_overlap", "cache_gib"}
    assert any("--set" in option.opts for option in cli.commands["evaluate"].params)


def test_the_help_names_every_protocol() -> None:
    from syn2co.cli import scores
    from syn2co.evaluation.protocols.registry import PROTOCOLS

    assert sorted(scores.PROTOCOLS) == sorted(PROTOCOLS)
    assert f"{', '.join(scores.PROTOCOLS)}; syn2co" in str(
        next(option for option in cli.commands["evaluate"].params if option.name == "protocols").help  # type: ignore[attr-defined]
    )


def test_defaults_of_functions() -> None:
    protocols = inspect.signature(evaluate).parameters["protocols"].default
    assert str(_defaults("evaluate")["protocols"]).split(",") == list(protocols)
