"""Stages, slots, locks: each stage once, both cores busy, nothing half-made, nobody left behind."""

import contextlib
import json
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from types import SimpleNamespace

import psutil
import pytest

from zephyr_lab.engine import workers as workers_of
from zephyr_lab.engine.notebook_process import KERNEL
from zephyr_lab.engine.stages import Stage

PAUSE = "pause=0.05"


@pytest.mark.slow
def test_three_notebooks_share_fourteen_stages_and_two_slots(toy):
    assert set(toy.states("10", "11", "12", "-p", "pause=0.3").values()) == {"ran"}
    builds = toy.builds()
    assert len(builds) == len(set(builds)) == 14
    assert most_at_once(toy) == 2
    # walks run two at a time all the way: the sum of their times is near twice the time they took together
    spans = stage_spans(toy)
    together = max(end for _, end in spans) - min(start for start, _ in spans)
    assert sum(end - start for start, end in spans) > 1.3 * together


def stage_spans(toy):
    """(start, end) of the building of each stage, from the journal and the end records."""
    began = {line.split()[0]: float(line.split()[2]) for line in (toy.root / "journal.txt").read_text().splitlines()}
    spans = []
    for end in (toy.root / "runs/tiny").glob("*/*/end.json"):
        record = json.loads(end.read_text())
        start = began[f"{record['stage']['name']}-{record['key']}"]
        spans.append((start, start + record["seconds"]))
    return spans


def most_at_once(toy):
    spans = stage_spans(toy)
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def test_a_killed_worker_is_told_and_the_next_run_resumes_to_the_right_end(toy):
    process = toy.start("run", "10", "-p", "pause=0.1")
    worker = wait_for(lambda: workers(process))[0]
    time.sleep(0.35)  # past its first checkpoints
    worker.kill()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was killed by signal 9" in out and "run again to resume" in out
    begun = set(toy.builds())
    assert toy.states("10", "-p", "pause=0.1")["10_one"] == "ran"
    again = [line.split() for line in (toy.root / "journal.txt").read_text().splitlines()[len(begun) :]]
    assert [int(step) for stage, step, _ in again if stage in begun] > [0]  # resumed, not begun anew
    ends = toy.products()["10_one.txt"].split()
    walks = [walk(seed, 6) for seed in range(11)]
    assert [int(end) for end in ends] == walks + [walk(n + sum(walks[n::3]), 6) for n in range(3)]


def walk(value, steps):
    """The toy recipe by hand."""
    for _ in range(steps):
        value = (value * 1103515245 + 12345) % 2**31
    return value


def test_a_killed_fork_server_is_told_and_leaves_nobody(toy):
    process = toy.start("run", "10", "-p", "pause=0.3")
    working = wait_for(lambda: workers(process))
    working[0].parent().kill()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was killed by signal 9" in out and "run again to resume" in out
    wait_for(lambda: not any(alive(child) for child in working), seconds=2.0)


def test_a_forked_worker_and_a_fresh_one_build_the_same_bytes(new_toy):
    code = "from toy_recipes import study; print(study.ends(3, 4, 0.0))"
    fresh = "from zephyr_lab.engine import workers; workers.forks = lambda stage: False; " + code
    forked, started = new_toy(), new_toy()
    assert forked.python(code).stdout == started.python(fresh).stdout != ""
    assert forked.artefacts() == started.artefacts() != {}


def test_a_fork_server_waits_for_the_next_call_and_ends_with_its_process(toy):
    code = """
import psutil
from toy_recipes import study

def servers():
    return [child for child in psutil.Process().children() if "zephyr_lab.engine.fork_server" in child.cmdline()]

study.ends(1, 4, 0.0)
(first,) = servers()
study.ends(1, 5, 0.0)
assert servers() == [first]
first.kill()
first.wait()
study.ends(1, 6, 0.0)
(second,) = servers()
assert second != first
print(second.pid)
"""
    pid = int(toy.python(code).stdout)
    wait_for(lambda: not psutil.pid_exists(pid), seconds=2.0)
    assert len(toy.builds()) == 12  # a walk and three sums a call


def test_an_interrupt_is_one_line_in_a_notebook_and_what_was_built_is_kept(toy):
    code = """
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a kernel; a shell's background jobs ignore it
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
threading.Timer(4.0, os.kill, (os.getpid(), signal.SIGINT)).start()
shell.run_cell("from toy_recipes import study; study.ends(5, 40, 0.2)")
"""
    said = toy.python(code)
    shown = [line for line in (said.stdout + said.stderr).splitlines() if line.strip()]
    assert shown[-1].startswith("stopped: ") and shown[-1].endswith("the same cell or command goes on from here")
    assert "Traceback" not in said.stdout + said.stderr
    assert "stopped" not in toy.python("from toy_recipes import study; print(study.ends(1, 4, 0.0))").stdout


def test_a_fork_server_of_other_code_or_variables_is_not_used_again(monkeypatch):
    server = workers_of._Server.__new__(workers_of._Server)
    server.idle_since = time.monotonic()
    server._process = SimpleNamespace(poll=lambda: None)
    environment = {"A": "1"}
    server._of = (environment, workers_of.paths.project_root(), workers_of._loaded_code())
    assert server.serves(environment) and not server.serves({"A": "2"})
    monkeypatch.setattr(workers_of, "_loaded_code", dict)
    assert not server.serves(environment)
    monkeypatch.undo()
    server.idle_since -= workers_of.SECONDS_IDLE
    assert not server.serves(environment)


@pytest.mark.parametrize(("device", "forks"), [("cpu", True), ("cuda", False)])
def test_workers_on_a_gpu_are_not_forked(device, forks, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    assert workers_of.forks(Stage("base", "a.b:build", Recipe(device))) is forks


@dataclass(frozen=True)
class Recipe:
    device: str


@pytest.mark.parametrize("victim", ["runner", "notebook", "kernel"])
def test_no_process_outlives_a_killed_parent(toy, victim):
    process = toy.start("run", "10", "11", "-p", "pause=0.3")
    wait_for(lambda: workers(process))
    family = psutil.Process(process.pid).children(recursive=True)
    if victim == "runner":
        doomed = family
        process.kill()
    else:
        module = {"notebook": "zephyr_lab.engine.notebook_process", "kernel": KERNEL}[victim]
        parent = descendants(process, module)[0]
        doomed = [parent, *parent.children(recursive=True)]
        parent.kill()
    wait_for(lambda: not any(alive(child) for child in doomed), seconds=2.0)
    process.kill()
    process.wait()


def test_code_edited_while_a_kernel_is_open_does_not_poison_the_store(toy):
    code = """
import pathlib
from toy_recipes import study
print(study.ends(3, 4, 0.0)[0])
steps = pathlib.Path("{root}/toy_recipes/steps.py")
steps.write_text(steps.read_text().replace("12345", "54321"))
print(study.ends(3, 4, 0.0)[0])
""".replace("{root}", str(toy.root))
    first, second = toy.python(code).stdout.split()
    fresh = toy.python("from toy_recipes import study; print(study.ends(3, 4, 0.0)[0])").stdout.split()
    assert first != second
    assert fresh == [second]
    assert len(toy.builds()) == 12  # six stages before the edit, six after, none for the fresh process


def test_code_edited_while_a_stage_is_built_is_refused(toy):
    process = subprocess.Popen(
        [*toy.command("run", "10", "-p", "pause=0.4")], env=toy.environment, stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: toy.builds())
    toy.edit("toy_recipes/steps.py", "12345", "54321")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "changed after it was asked for; run again to use the new code" in out


def test_a_build_that_raises_is_told_in_one_line(toy):
    code = """
from toy_recipes.arithmetic import Walk
from zephyr_lab.engine.stages import Stage
from zephyr_lab.engine.scheduler import get
get(Stage("walk", "toy_recipes.arithmetic:build", Walk(1, fail="loss is NaN at step 3"), seed=5))
"""
    last = toy.python(code).stderr.strip().splitlines()[-1]
    assert "stage walk, seed 5 failed: ValueError: loss is NaN at step 3 (traceback in runs/tiny/.scratch/walk-" in last


def test_an_interrupt_stops_all_processes(toy):
    process = toy.start("run", "10", "-p", "pause=0.3")
    wait_for(lambda: workers(process))
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) != 0
    wait_for(lambda: not any(alive(child) for child in family), seconds=2.0)


@pytest.mark.parametrize("moments", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_at_random_moments_leave_the_same_bytes_and_no_orphans(new_toy, moments):
    whole = new_toy()
    assert set(whole.states("10", "12", "-p", PAUSE).values()) == {"ran"}
    rng = random.Random(moments)
    broken = new_toy()
    for moment in range(moments):
        if moment % 5 == 4:
            broken = new_toy()  # early moments are hit again
        process = broken.start("run", "10", "12", "-p", PAUSE)
        begun = len(broken.builds())
        wait_for(
            lambda broken=broken, begun=begun, process=process: len(broken.builds()) > begun or process.poll() == 0
        )
        time.sleep(rng.uniform(0.0, 1.5))  # somewhere in the stages, or in the cells after them
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        kill(rng.choice([process, *family]))
        process.communicate(timeout=60)
        wait_for(lambda family=family: not any(alive(child) for child in family), seconds=2.0)
        finished = [path.name.partition(".")[0] for path in (broken.root / "build/tiny/notebooks").glob("*.run.json")]
        stale = [name for name in finished if broken.products()[f"{name}.txt"] != whole.products()[f"{name}.txt"]]
        assert not stale  # a record stands for whole products only
    assert set(broken.states("10", "12", "-p", PAUSE).values()) <= {"ran", "fresh"}
    assert broken.artefacts() == whole.artefacts()
    assert broken.products() == whole.products()
    assert not list((broken.root / "runs/tiny/.scratch").iterdir())


def kill(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()  # a subprocess or psutil's


def descendants(process, module):
    """Children of children whose command names `module`."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if module in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def workers(process):
    """Forked workers: children of a fork server, which is a child like them by its command alone."""
    servers = descendants(process, "zephyr_lab.engine.fork_server")
    numbers = {server.pid for server in servers}
    with contextlib.suppress(psutil.Error):
        return [server for server in servers if server.ppid() in numbers]
    return []


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not so within {seconds} s")
