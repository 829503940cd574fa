"""The command line: thin, every command is one library call. Heavy imports stay inside the commands."""

import errno
import io
import os
import sys

import click

from syn2co.cli import audits, encoders, reports, runs, scores, sets, studies
from syn2co.cli.ranks import say
from syn2co.core.errors import Syn2CoError
from syn2co.core.paths import PathError
from syn2co.core.stuck_threads import leave_if_stuck
from syn2co.core.urls import without_secrets
from syn2co.core.versions import __version__
from syn2co.runtime.allocator import is_lack, lack_in_words
from syn2co.runtime.signals import Terminated, ends_on_signals

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Group(click.Group):
    """Commands in the order of work rather than of the alphabet, and the nearest name for an unknown one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the secrets out of URLs before anything reads the words: messages and files repeat them."""
        return super().parse_args(ctx, list(map(without_secrets, args)))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first sentence of each command whole, where click would cut it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, part.get_short_help_str(limit=1000)) for name, part in self.commands.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            from syn2co.core.hints import nearest

            ctx.fail(f"there is no command '{args[0]}'{nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, context_settings=HELP)
@click.version_option(__version__, prog_name="syn2co")
def cli() -> None:
    """Train vision transformers without labels, with synthetic hard negatives.

    \b
    syn2co demo                              see it work, offline, in minutes
    syn2co pretrain --recipe synco-deit-s --real photos --out runs/photos
    syn2co evaluate runs/photos --train labeled/train --test labeled/test
    """


_pretrain, *_others = runs.COMMANDS
for _command in (
    _pretrain,
    scores.evaluate,
    *studies.COMMANDS,
    *reports.COMMANDS,
    scores.embed,
    encoders.export,
    *_others,
    *sets.COMMANDS,
    audits.audit,
    scores.cache,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line and end the process: see `_main` for its exit status."""
    try:
        _main()
    except SystemExit as left:
        leave_if_stuck(0 if left.code is None else left.code if isinstance(left.code, int) else 1)
        raise
    leave_if_stuck(0)


def _main() -> None:
    """Run the command line: 0 done, 2 an error that the user can fix, 130 after Ctrl-C, 143 after SIGTERM and its like.

    SIGTERM's like are SIGHUP, SIGUSR1 and SIGUSR2. 1 is a reader of the output who has gone.

    Idle threads sleep instead of spinning: another busy process on the machine then costs training a quarter of its
    speed, not two thirds (two cores).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    os.environ["MPLBACKEND"] = "agg"  # no window is opened; an unknown name there ends the import of matplotlib
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # class names in a terminal of another alphabet
    try:
        with ends_on_signals():
            _require_folder()
            cli(standalone_mode=False)
            sys.stdout.flush()
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Syn2CoError as error:
        say(error)
        sys.exit(2)
    except (KeyboardInterrupt, click.exceptions.Abort):
        sys.exit(130)
    except SystemExit as left:
        if isinstance(left.__cause__, Terminated):  # whoever saves before he leaves has said so
            click.echo(f"ended by {left.__cause__}; what was finished is kept, and used by the same command", err=True)
        raise
    except OSError as error:
        _leave_without_temporary_files(error)
        _leave_without_output(error)
        raise
    except (MemoryError, RuntimeError, ImportError) as error:
        _leave_without_means(error)
        raise


def _open_streams() -> None:
    """Let the null device stand for standard streams that are closed: the next file that is opened would be one."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - it stays


def _require_folder() -> None:
    """Refuse a current folder that is gone, without which libraries end the process in odd words."""
    try:
        os.getcwd()
    except OSError:
        raise PathError("the current folder is no longer there; change to another one") from None


def _leave_without_temporary_files(error: OSError) -> None:
    """Leave if no folder for temporary files was there; libraries ask for one while they are imported."""
    if "No usable temporary directory" in str(error):  # in these words by Python's tempfile
        click.echo("TMPDIR: no folder for temporary files can be written; name one in this variable", err=True)
        sys.exit(2)


def _leave_without_means(error: Exception) -> None:
    """Leave if the system gives no more memory or threads."""
    if is_lack(error):
        click.echo(f"{lack_in_words(error)}; end other programs, or raise the limit (ulimit -v)", err=True)
        sys.exit(2)
    if "can't start new thread" in str(error):  # in these words by Python
        advice = "end other programs, or raise the limit of processes (ulimit -u, or that of the container)"
        click.echo(f"no more threads can be started; {advice}", err=True)
        sys.exit(2)


def _leave_without_output(error: OSError) -> None:
    """Leave if it is standard output that failed: a full disk, or a reader who has gone."""
    try:
        os.write(1, b"\n")
    except OSError:
        with open(os.devnull, "w") as nowhere:  # Python would fail once more when it flushes at the end
            os.dup2(nowhere.fileno(), 1)
        if error.errno != errno.EPIPE:
            click.echo(f"standard output: cannot be written ({error.strerror}); give it another place", err=True)
        sys.exit(1 if error.errno == errno.EPIPE else 2)  # 1 as click
