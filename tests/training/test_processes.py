"""Runs of several real processes with gloo: slurm's variables, two nodes, and a process that dies."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import assert_close_scores, assert_close_weights, finish_after, run, start

from han_arch.errors import UserError
from han_arch.training import processes

pytestmark = pytest.mark.usefixtures("basicsr")
HALF_BATCH = ("--force_yml", "datasets:train:batch_size_per_gpu=1", "train:total_iter=8")
WHOLE_BATCH = ("--force_yml", "train:total_iter=8")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    texts = [process.communicate(timeout=200)[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, texts, strict=True)]


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[03-05,9],login", "gpu03"),
        ("gpu[9,11]", "gpu9"),
        ("rack[2-4]n[1,7-8].site", "rack2n1.site"),
        ("a-b[1-2]", "a-b1"),
    ],
)
def test_first_of_slurms_nodes(nodes: str, first: str) -> None:
    assert processes.first_host(nodes) == first


def test_slurms_variables_become_torchruns() -> None:
    task = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_JOB_NODELIST": "gpu[03-04]"}
    assert processes.slurm_as_torchrun(task, 29500) == {
        "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu03", "MASTER_PORT": "29500",
    }  # fmt: skip
    own = {**task, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"}
    assert processes.slurm_as_torchrun(own, 29500)["MASTER_ADDR"] == "10.0.0.1"
    assert processes.slurm_as_torchrun(own, 29500)["MASTER_PORT"] == "1234"
    with pytest.raises(UserError, match=r"SLURM_JOB_NODELIST, which is not set; .*: srun"):
        processes.slurm_as_torchrun({"SLURM_PROCID": "0"}, 29500)


SHOW_SEED = """
from han_arch import cli
from han_arch.training import loop
loop.train = lambda opt, *rest: print("seed", opt["manual_seed"]) or 0
raise SystemExit(cli.main("train -opt run.yml --launcher pytorch --force_yml manual_seed=~".split()))
"""


def test_ranks_share_the_seed_that_is_drawn(make_run) -> None:
    """With a different seed in each process, some samples would be used twice and others never."""
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    folder = make_run("run")
    ranks = [
        subprocess.Popen([sys.executable, "-c", SHOW_SEED], cwd=folder, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, env={**common, "RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]  # fmt: skip
    (code_0, text_0), (code_1, text_1) = finish(ranks)
    assert (code_0, code_1) == (0, 0), text_0 + text_1
    seeds = [text[text.index("seed ") :].split()[1] for text in (text_0, text_1)]
    assert seeds[0] == seeds[1]


@pytest.mark.slow
def test_slurm_tasks_equal_one_process(make_run) -> None:
    """Start two processes with the environment variables of srun, on a machine without slurm's command scontrol."""
    alone, together = make_run("alone"), make_run("together")
    assert run(alone, *WHOLE_BATCH)[0] == 0
    port = str(free_port())
    tasks = [
        start(
            together, *HALF_BATCH, f"dist_params:port={port}", "--launcher", "slurm",
            environment={
                "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_NTASKS": "2",
                "SLURM_JOB_NODELIST": "localhost",
            },
        )
        for task in (0, 1)
    ]  # fmt: skip
    for code, text in finish(tasks):
        assert code == 0, text
    assert_close_weights(together, alone)
    assert_close_scores(together, alone, count=3)


@pytest.mark.slow
def test_two_nodes_equal_one_process(make_run) -> None:
    """Start two torchrun agents, as on two nodes, that connect by TCP."""
    alone, together = make_run("alone"), make_run("together")
    assert run(alone, *WHOLE_BATCH)[0] == 0
    agents = []
    port = free_port()
    for _ in range(2):
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1",
            "--rdzv_id", "pair", "--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}",
            "-m", "han_arch", "train", "-opt", "run.yml", "--launcher", "pytorch", *HALF_BATCH,
        ]  # fmt: skip
        agents.append(
            subprocess.Popen(command, cwd=together, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    for code, text in finish(agents):
        assert code == 0, text
    assert_close_weights(together, alone)
    assert_close_scores(together, alone, count=3)


def ranks_of(agent: int) -> list[int]:
    """Return the process ids of torchrun's workers, rank 0 first."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return sorted(int(child) for child in children)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the test finds the processes in Linux's /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_dying_rank_ends_the_job_and_the_run_resumes(make_run, victim: int) -> None:
    alone, together = make_run("alone"), make_run("together")
    assert run(alone)[0] == 0
    job = start(together, "--force_yml", "datasets:train:batch_size_per_gpu=1", ranks=2)
    killed = []

    def kill() -> None:
        killed.append(time.monotonic())
        os.kill(ranks_of(job.pid)[victim], signal.SIGKILL)

    code, text = finish_after(job, 7, kill)
    assert code != 0
    assert time.monotonic() - killed[0] < 60
    assert "Signal 9 (SIGKILL)" in text
    # One process resumes the run; then two processes finish it.
    code, text = run(together, "--auto_resume", "--force_yml", "train:total_iter=11")
    assert code == 0, text
    # Rank 0 saves its last complete iteration, unless it is the victim.
    resumed = re.search(r"Resuming training .*iter: (\d+)\.", text)
    assert resumed
    assert int(resumed[1]) in ((5, 6, 7, 8) if victim else (5,))
    code, text = run(together, "--auto_resume", "--force_yml", "datasets:train:batch_size_per_gpu=1", ranks=2)
    assert code == 0, text
    assert_close_weights(together, alone)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the test finds the processes in Linux's /proc")
def test_signal_to_one_rank_stops_all_after_saving(make_run) -> None:
    folder = make_run("stopped")
    job = start(folder, "--force_yml", "datasets:train:batch_size_per_gpu=1", ranks=2)
    _, text = finish_after(job, 7, lambda: os.kill(ranks_of(job.pid)[1], signal.SIGTERM))
    assert "signal to another process" in text
    assert "Connection closed" not in text  # this would appear if only one process had stopped
    newest = max(int(path.stem) for path in (folder / "experiments/run/training_states").glob("*.state"))
    assert newest >= 7
