"""Two hosts: two network namespaces of this machine, joined by one wire, with a torchrun in each."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from runs import KILLED_ONCE, assert_same_run, finish, metrics, start_ranks, train

ADDRESSES = {"syn2co-a": "10.213.77.1", "syn2co-b": "10.213.77.2"}


def _ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Names and addresses of two hosts that see each other and nothing else."""
    if shutil.which("ip") is None or _ip("netns", "add", "syn2co-a").returncode:
        pytest.skip("network namespaces need root and iproute2")
    first, second = ADDRESSES
    try:
        _ip("netns", "add", second)
        wired = _ip("link", "add", "wire", "netns", first, "type", "veth", "peer", "name", "wire", "netns", second)
        if wired.returncode:
            pytest.skip(f"no wire between namespaces: {wired.stderr.strip()}")
        for host, address in ADDRESSES.items():
            for words in (["address", "add", f"{address}/24", "dev", "wire"], ["link", "set", "wire", "up"]):
                assert _ip("-n", host, *words).returncode == 0
            assert _ip("-n", host, "link", "set", "lo", "up").returncode == 0
        yield ADDRESSES
    finally:
        for host in ADDRESSES:
            _ip("netns", "del", host)


@pytest.mark.slow
def test_a_run_on_two_hosts_whose_rank_is_killed_goes_on_and_equals_one_on_a_single_host(tiny, hosts, tmp_path):
    """The command of the documentation: torchrun on each host starts both ranks again, from the last checkpoint."""
    (tmp_path / "tiny.json").write_text(tiny("training.steps=4", "machine.save_steps=1").to_json())
    (tmp_path / "sitecustomize.py").write_text(KILLED_ONCE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "GLOO_SOCKET_IFNAME": "wire", "PYTHONWARNINGS": "ignore"}
    processes = []
    for host, address in hosts.items():
        command = [
            "ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2",
            "--nproc-per-node", "1", "--max-restarts", "1", "--rdzv-backend", "c10d", "--rdzv-id", "run",
            "--rdzv-endpoint", f"{hosts['syn2co-a']}:29500", "--local-addr", address,
            "--rdzv-conf", f"is_host={int(host == 'syn2co-a')}",  # a namespace has no name of its own
            "-m", "syn2co", "pretrain", "--config", "tiny.json", "--out", "run", "--quiet",
        ]  # fmt: skip
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes))
    said = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert sum("exitcode: -9" in errors for _, errors in said) == 1, "one host lost its rank"
    assert "".join(words for words, _ in said).count("run: 4 steps done.") == 1, "only the first rank speaks"
    other = tmp_path / "other"
    assert [finish(one) for one in start_ranks(2, train, tiny("training.steps=4").to_json(), str(other))] == [0, 0]
    assert [record["step"] for record in metrics(tmp_path / "run")] == [1, 2, 3, 4]
    assert_same_run(tmp_path / "run", other)
