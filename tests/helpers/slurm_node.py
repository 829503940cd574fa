"""A real SLURM of one node on this machine, for tests: own configuration, key, ports and folder, no systemd."""

import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_SECONDS = 60
COMMAND_SECONDS = 30
WAIT_SECONDS = 240
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "sinfo", "squeue", "scancel")
_PR_SET_CHILD_SUBREAPER = 36  # of <linux/prctl.h>

# `cred_expire`: a requeued job waits 5 seconds instead of 120. One thread per core, whatever the machine has, because
# CR_Core gives a job whole cores; FORCE:4 lets four jobs share one, so that two run at a time on a single core too.
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
PropagateResourceLimits=NONE
JobRequeue=1
EnforcePartLimits=ALL
KillWait=2
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} CoresPerSocket={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes=node Default=YES MaxTime=60 OverSubscribe=FORCE:4 State=UP
"""


class SlurmUnavailable(Exception):
    """SLURM is not installed, or did not start; the message says why."""


@contextmanager
def slurm_node() -> Iterator[Path]:
    """Run SLURM with one idle node of all cores, named by SLURM_CONF in the environment; yield its folder.

    At the end, or when this process is killed, the daemons and every process of every job are killed.

    Raises:
        SlurmUnavailable: if a program is missing, or the node is not idle after `START_SECONDS`.
    """
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="slurm-") as name:
        patch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin")  # Debian's daemons are not on every user's path
        if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
            raise SlurmUnavailable(f"SLURM is not installed (no {', '.join(missing)}); apt install slurm-wlm munge")
        folder = Path(name)
        _write_config(folder)
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        words = [sys.executable, __file__, name]
        supervisor = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)  # no Ctrl-C for it
        try:
            _wait_until_idle(supervisor)
            yield folder
        finally:
            _stop(supervisor)


def command(*words: str) -> str:
    """Return what a command of SLURM prints; raise if it fails or takes longer than `COMMAND_SECONDS`."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition` holds; raise with the queue and the logs if it does not in `WAIT_SECONDS`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {WAIT_SECONDS} seconds\n{command('squeue')}\n{_logs()}")
        time.sleep(0.1)


def _write_config(folder: Path) -> None:
    folder.chmod(0o755)  # munged accepts a socket only where every user may reach it
    (folder / "munge.key").touch(mode=0o600)
    (folder / "munge.key").write_bytes(os.urandom(128))
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    text = CONFIG.format(
        folder=folder, host=socket.gethostname().split(".")[0], user=os.getuid(), cpus=os.cpu_count(),
        controller_port=ports[0], node_port=ports[1],
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
    )  # fmt: skip
    (folder / "slurm.conf").write_text(text)


def _wait_until_idle(supervisor: subprocess.Popen[bytes]) -> None:
    state, deadline = "", time.monotonic() + START_SECONDS
    while supervisor.poll() is None and time.monotonic() < deadline:
        try:
            state = command("sinfo", "--noheader", "--format=%T")
        except (RuntimeError, subprocess.TimeoutExpired) as error:  # the controller does not answer yet
            state = str(error)
        if state == "idle":
            return
        time.sleep(0.1)
    raise SlurmUnavailable(f"SLURM did not start: {state}\n{_logs()}")


def _logs() -> str:
    """Return the last lines of each daemon's log."""
    paths = sorted(Path(os.environ["SLURM_CONF"]).parent.glob("*.log"))
    return "\n".join("\n".join([path.name, *path.read_text().splitlines()[-15:]]) for path in paths)


def _stop(supervisor: subprocess.Popen[bytes]) -> None:
    assert supervisor.stdin is not None
    supervisor.stdin.close()
    try:
        supervisor.wait(COMMAND_SECONDS)
    finally:
        supervisor.kill()
        supervisor.wait()


# --- the supervisor, a process of its own ---------------------------------------------------------------------------


def _supervise(folder: Path) -> None:
    """Run the daemons until standard input ends or one of them does, then kill all that they have started."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # slurmd leaves the processes of jobs as orphans
    try:
        daemons = {_start(folder, "munged", *(f"--{name}" for name in _munge_options(folder)))}
        while _run_on(daemons):
            if len(daemons) == 1 and (folder / "munge.socket").exists():
                daemons |= {_start(folder, "slurmctld", "-D"), _start(folder, "slurmd", "-D")}
    finally:
        _kill_children()


def _munge_options(folder: Path) -> tuple[str, ...]:
    files = {"socket": "socket", "pid-file": "pid", "key-file": "key", "seed-file": "seed"}
    return ("foreground", *(f"{option}={folder}/munge.{suffix}" for option, suffix in files.items()))


def _start(folder: Path, name: str, *options: str) -> int:
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen([name, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log).pid


def _run_on(daemons: set[int]) -> bool:
    """Wait a moment, reap an ended child, and tell whether standard input is open and no daemon has ended."""
    closed = bool(select.select([sys.stdin], [], [], 0.1)[0])
    return not closed and os.waitpid(-1, os.WNOHANG)[0] not in daemons


def _kill_children() -> None:
    """Kill children until none is left; the children of a killed one become children of this process."""
    while True:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_bytes().rpartition(b")")[2].split()[1])
            except OSError:  # it has ended
                continue
            if parent == os.getpid():
                os.kill(int(stat.parent.name), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    _supervise(Path(sys.argv[1]))
