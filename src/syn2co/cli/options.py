"""Options that several commands share, each written once, and the command that reads them."""

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click

from syn2co.core.errors import ConfigError
from syn2co.core.paths import status_of, user_path
from syn2co.images.quarantine import MAX_BROKEN_SHARE

Command = TypeVar("Command", bound=Callable[..., Any])
_TRAINING = ("syn2co.pretraining.config", "Config")
_SYNTHESIS = ("syn2co.synthesis.sets.settings", "SynthesisSettings")
_SETTINGS = {
    "pretrain": _TRAINING,
    "demo": _TRAINING,
    "study": _TRAINING,
    "plan": _SYNTHESIS,
    "generate": _SYNTHESIS,
    "evaluate": ("syn2co.evaluation.settings", "EvaluationSettings"),
}
"""Module and class of the settings that --set of a command changes; imported for errors alone."""


class UserPath(click.ParamType):
    """A path, with ~ expanded where the shell leaves it, as in --out=~/runs."""

    name = "path"

    def __init__(self, missing: str = "") -> None:
        """Take any path, or with what to do if it is `missing`, one at which something lies when the command runs."""
        self.missing = missing

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return user_path(value)

    def look_up(self, path: Path, parameter: click.Parameter) -> None:
        """Refuse a path at which nothing lies, if something must."""
        if self.missing and status_of(path) is None:
            name = (parameter.metavar or (parameter.name or "").upper()).rstrip(".")
            raise ConfigError(f"{name} {path}: does not exist; {self.missing}")


class Duration(click.ParamType):
    """A time such as 90s, 30m, 2h or 1h30m, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        number = r"(\d+\.?\d*|\.\d+)"
        parts = re.fullmatch(f"(?:{number}h)?(?:{number}m)?(?:{number}s)?", "".join(value.lower().split()))
        hours, minutes, seconds = (float(part or 0) for part in parts.groups()) if parts else (0.0, 0.0, 0.0)
        total = 3600 * hours + 60 * minutes + seconds
        if not total:
            self.fail(f"{value!r} is no time; give hours, minutes or seconds, such as 2h, 90m or 1h30m", param, ctx)
        return total


class SourceCommand(click.Command):
    """A command whose options of sources take several values, as a shell expands them, and which knows its settings.

    `--real a b` is `--real a --real b` once all arguments of the command stand before it; otherwise the next word may
    be one of those.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, self._one_value_each(args))
        except click.NoSuchOption as error:
            hint = _setting_hint(self.name or "", error.option_name, given)
            if hint is None:
                raise
            raise click.UsageError(f"No such option: {error.option_name}; {hint}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Refuse sources and folders that are not there before anything heavy is imported, then run the command."""
        from syn2co.data.named_source import look_up, split_bits

        for parameter in self.params:
            given = ctx.params[parameter.name or ""]
            for value in given if isinstance(given, tuple) else () if given is None else (given,):
                if (parameter.metavar or "").startswith("SRC"):
                    look_up(split_bits(value)[0])
                elif isinstance(parameter.type, UserPath):
                    parameter.type.look_up(value, parameter)
        return super().invoke(ctx)

    def _one_value_each(self, args: list[str]) -> list[str]:
        """Return the words with the option repeated before each further value of a source."""
        options = [parameter for parameter in self.params if isinstance(parameter, click.Option)]
        sources = {name for option in options if option.multiple and option.metavar == "SRC" for name in option.opts}
        names = {name for option in options for name in option.opts}
        valued = {name for option in options if not option.is_flag for name in option.opts}
        missing = sum(isinstance(parameter, click.Argument) and parameter.required for parameter in self.params)
        words: list[str] = []
        option, due = "", False  # the option that was read last, and whether its value comes next
        for number, word in enumerate(args):
            if word == "--" and not due:
                return words + args[number:]
            if due and word in names:  # the shell leaves no word of an empty variable
                raise click.BadOptionUsage(option, f"Option {option!r} requires an argument; behind it stands {word}")
            if due:
                due = False
            elif word.startswith("-"):
                option, equals, _ = word.partition("=")
                due = option in valued and not equals
            elif option in sources and missing <= 0:
                words.append(option)
            else:
                missing -= 1
            words.append(word)
        return words


def _setting_hint(command: str, option: str, args: list[str]) -> str | None:
    """Return how to set what was given as an option of its own, None if no setting of the command has that name."""
    name = option.lstrip("-").replace("-", "_")
    settings = _known_settings(command)
    same = [known for known in settings if known == name or known.endswith(f".{name}")]
    same = same or [known for known in settings if name in known.rpartition(".")[2].split("_")][:3]  # lr of base_lr
    if not same:
        return None
    word = next(word for word in args if word.partition("=")[0] == option)
    following = args[args.index(word) + 1 : args.index(word) + 2]
    value = word.partition("=")[2] if "=" in word else "".join(following)
    value = "VALUE" if not value or value.startswith("--") else value
    return "it is a setting: " + " or ".join(f"--set {known}={value}" for known in same)


def _known_settings(command: str) -> list[str]:
    """Return the dotted names that --set of a command takes, those of the shipped generators included."""
    if command not in _SETTINGS:
        return []
    from syn2co.core.settings import setting_names

    module, name = _SETTINGS[command]
    names = setting_names(getattr(import_module(module), name))
    if _SETTINGS[command] == _SYNTHESIS:
        from syn2co.synthesis.generators.registry import load_generator
        from syn2co.synthesis.sets.spec import BUILTIN

        names += [known for kind in BUILTIN for known in setting_names(load_generator(kind).options, "options.")]
    return list(dict.fromkeys(names))


branch_option = click.option(
    "--branch",
    type=click.Choice(["online", "target"]),
    default="online",
    show_default=True,
    help="Encoder of a run: the trained one, or its moving average.",
)
_EXTRACTION = (
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps."),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Precision of the encoder; features are float32.",
    ),
    click.option("--batch-size", default=256, show_default=True, help="Images per forward pass."),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        default=None,
        help="Threads that decode in the background; 0: none [one per core, at most 16].",
    ),
    click.option(
        "--max-broken-share",
        default=MAX_BROKEN_SHARE,
        show_default=True,
        help="Refuse a source with a larger share of broken images.",
    ),
    click.option("--quiet", is_flag=True, help="No progress bar."),
)


def extraction_options(command: Command) -> Command:
    """Add --quiet and the settings of `EvaluationSettings` that every extraction of features has."""
    for option in reversed(_EXTRACTION):
        command = option(command)
    return command
