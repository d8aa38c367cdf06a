"""Jobs for clusters: written as the golden files have them, read back as what was meant, and safe for whatever stands in them."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.cli.launch.job import Job, job_of, label, plain, seconds_of
from bloomery.cli.launch.kubernetes import Kubernetes
from bloomery.cli.launch.slurm import Slurm
from bloomery.cli.launch.yaml import documents
from bloomery.core.errors import ConfigError

GOLDEN = Path(__file__).parent / "golden"
ARGUMENTS = ("run", "recipes/tales.py", "--source", "it's $(here)/*.md", "--layout", "shard=8,tensor=2")
JOB = Job(name="tales", arguments=ARGUMENTS, nodes=2, per_node=8, restarts=3, time_s=90_000)
HOSTILE = st.text(max_size=30) | st.sampled_from(["$(rm -rf /)", "`x`", "a'b", 'a"b', "$HOME", "a\\b", "\n", "-x", "", "$$(X)", "é😀", "# no"])


def slurm(**changes) -> Slurm:
    fields = {"python": "/opt/env/bin/python", "folder": Path("/home/me/my work"), "logs": Path("/home/me/my work/store/jobs")}
    return Slurm(**fields | {"partition": "gpu,long", "account": "me"} | changes)


@pytest.fixture
def kubernetes(tmp_path) -> Kubernetes:
    (tmp_path / "tales.py").write_text('def tales():\n    """Tales."""\n\n    return "\\t"\n')
    return Kubernetes(image="registry.local/bloomery:1", claim="store", recipe=tmp_path / "tales.py", namespace="lab")


def golden(name: str, text: str) -> None:
    """Compares with the golden file; BLOOMERY_GOLDEN=write writes it."""
    if os.environ.get("BLOOMERY_GOLDEN") == "write":
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


def test_the_batch_script_is_the_golden_one_and_bash_can_read_it():
    text = slurm().text(JOB)
    golden("tales.sbatch", text)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_a_script_for_cpus_asks_for_no_gpu_and_leaves_out_what_is_not_given():
    text = slurm(partition=None, account=None).text(Job(name="tales", arguments=ARGUMENTS, nodes=1, per_node=2, device="cpu"))
    assert not any(word in text for word in ("gpus", "partition", "account", "--time"))


SRUN = """#!/bin/bash
# Stands for Slurm's: a task per rank; hands SIGTERM on; ends with the worst exit code.
while [[ $1 == --* ]]; do shift; done
for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i SLURM_NTASKS=2 "$@" & tasks+=($!); done
trap 'kill -TERM "${tasks[@]}"' TERM
worst=0
for task in "${tasks[@]}"; do
  while :; do wait "$task"; code=$?; kill -0 "$task" 2>/dev/null || break; done
  (( code > worst )) && worst=$code
done
exit $worst
"""
SCONTROL = """#!/bin/bash
if [ "$1" = requeue ]; then echo "$2" > requeued; else echo node-a; echo node-b; fi
"""
RANK = """
import json, os, signal, sys, time
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
def told(number, frame):
    open(os.environ["RANK"] + ".told", "w").close()
    sys.exit(143)
signal.signal(signal.SIGTERM, told)
with open(os.environ["RANK"] + ".json.new", "w") as file:
    json.dump({"said": sys.argv[1:], **{name: os.environ[name] for name in names}}, file)
os.rename(file.name, os.environ["RANK"] + ".json")
if "wait" in sys.argv:
    time.sleep(60)
sys.exit(3 if "fail" in sys.argv else 0)
"""


def batch(folder: Path, *arguments: str, restarts: int = 0, restart: int = 0) -> subprocess.Popen:
    """The script as Slurm would run it, with stand-ins for its tools and for python."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "python": f"#!/bin/bash\nexec {sys.executable} -S rank.py \"$@\"\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "rank.py").write_text(RANK)
    script = slurm(python=str(folder / "python")).text(Job(name="tales", arguments=arguments, nodes=1, per_node=2, restarts=restarts))
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_JOB_ID": "41", "SLURM_RESTART_COUNT": str(restart),
    }  # fmt: skip
    (folder / "job.sbatch").write_text(script)
    return subprocess.Popen(["bash", "job.sbatch"], cwd=folder, env=environment)


def test_ranks_of_a_batch_script_find_each_other_and_get_their_arguments_unharmed(tmp_path):
    said = ["run", "it's", "$(touch harm)", "`touch harm`", "a b", "", "*", '"', "\\", "\n", "#"]
    assert batch(tmp_path, *said).wait(30) == 0
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [rank["said"] for rank in ranks] == [["-m", "bloomery.cli", *said]] * 2
    assert [(rank["RANK"], rank["LOCAL_RANK"], rank["WORLD_SIZE"]) for rank in ranks] == [("0", "0", "2"), ("1", "1", "2")]
    assert {(rank["MASTER_ADDR"], rank["MASTER_PORT"]) for rank in ranks} == {("node-a", "20041")}
    assert not (tmp_path / "harm").exists()
    assert not (tmp_path / "requeued").exists()


def test_a_script_that_is_warned_tells_its_ranks_and_is_queued_again(tmp_path):
    script = batch(tmp_path, "wait")
    deadline = time.monotonic() + 30
    while not all((tmp_path / f"{rank}.json").exists() for rank in (0, 1)) and time.monotonic() < deadline:
        time.sleep(0.02)
    script.send_signal(signal.SIGTERM)
    assert script.wait(30) == 143
    assert [(tmp_path / f"{rank}.told").exists() for rank in (0, 1)] == [True, True]
    assert (tmp_path / "requeued").read_text() == "41\n"


@pytest.mark.parametrize(("restart", "again"), [(0, True), (2, False)])
def test_a_script_that_fails_is_queued_again_as_often_as_asked(restart, again, tmp_path):
    assert batch(tmp_path, "fail", restarts=2, restart=restart).wait(30) == 3
    assert (tmp_path / "requeued").exists() == again


@settings(max_examples=40)
@given(st.lists(HOSTILE.filter(lambda text: "\0" not in text), max_size=4))
def test_a_batch_script_holds_whatever_the_arguments(arguments):
    text = slurm().text(Job(name="tales", arguments=tuple(arguments), nodes=1, per_node=1))
    start = text.index("/opt/env")
    assert shlex.split(text[start : text.index(" &\nranks=")]) == ["/opt/env/bin/python", "-m", "bloomery.cli", *arguments]


def test_the_manifest_is_the_golden_one_and_says_what_was_meant(kubernetes):
    text = kubernetes.text(JOB)
    golden("tales.yaml", text)
    recipe, service, job = yaml.safe_load_all(text)
    assert [one["kind"] for one in (recipe, service, job)] == ["ConfigMap", "Service", "Job"]
    assert {one["metadata"]["name"] for one in (recipe, service, job)} == {"tales"}
    assert recipe["data"] == {"tales.py": kubernetes.recipe.read_text()}
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"], spec["backoffLimit"]) == ("Indexed", 2, 2, 6)
    assert spec["activeDeadlineSeconds"] == 90_000
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": "tales"}
    assert pod["subdomain"] == "tales"
    container = pod["containers"][0]
    assert container["resources"]["limits"] == {"cpu": 64, "nvidia.com/gpu": 8}
    values = {one["name"]: one.get("value") for one in container["env"]}
    assert values["MASTER_ADDR"] == "tales-0.tales"
    assert "--nproc-per-node=8" in container["command"]
    assert container["command"][-6:] == [argument.replace("$", "$$") for argument in ARGUMENTS]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | HOSTILE | st.text("ab \n\t#:-é", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE | st.sampled_from(["on", "No", "a.b/c", "~", "1"]), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(PLAIN, min_size=1, max_size=2))
def test_yaml_says_the_same_when_it_is_read(values):
    assert list(yaml.safe_load_all(documents(values))) == values


@pytest.mark.parametrize(
    ("given", "laid"),
    [((16, None, None), (2, 8)), ((4, None, None), (1, 4)), ((16, 4, None), (4, 4)), ((16, None, 4), (4, 4)), ((1, None, None), (1, 1))],
)
def test_ranks_are_laid_on_nodes(given, laid):
    ranks, nodes, per_node = given
    found = job(ranks, nodes=nodes, gpus_per_node=per_node)
    assert (found.nodes, found.per_node) == laid


def job(ranks: int, **changes) -> Job:
    fields = {"nodes": None, "gpus_per_node": None, "device": "cuda", "cpus_per_gpu": 8, "restarts": 0, "time": None}
    return job_of("tales", (), ranks, **fields | changes)


@pytest.mark.parametrize("changes", [{"gpus_per_node": 5}, {"nodes": 5}, {"nodes": 2, "gpus_per_node": 4}, {}])
def test_ranks_that_make_no_whole_nodes_are_refused_with_what_would(changes):
    with pytest.raises(ConfigError, match="make not the 12 ranks of --layout; --nodes 2 --gpus-per-node 6 or --nodes 3"):
        job(12, **changes)


@pytest.mark.parametrize(("text", "seconds"), [("12:00", 43_200), ("01:02:03", 3_723), ("2-00:00:00", 172_800)])
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


def test_durations_and_names_that_are_none_are_refused():
    with pytest.raises(ConfigError, match="--time 'soon' is no duration"):
        seconds_of("soon")
    with pytest.raises(ConfigError, match="--partition 'a b' is no name"):
        plain("--partition", "a b")
    with pytest.raises(ConfigError, match="--partition"):
        slurm(partition="gpu\n#SBATCH --wrap=x").text(JOB)


@pytest.mark.parametrize(("name", "labelled"), [("Tiny_run", "tiny-run"), ("9 lives", "run-9-lives"), ("é", "run"), ("x" * 80, "x" * 50)])
def test_labels_are_those_of_clusters(name, labelled):
    assert label(name) == labelled
