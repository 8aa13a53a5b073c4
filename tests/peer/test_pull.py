"""`livelatent models pull` as users run it: the real command and the hub's real client, against a hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from engines import modelfile, paths
from engines.registry import Registry
from tests.support.hintnets import write_depth
from tests.support.hub import COMMIT, Hub, serving
from tests.support.model_files import adapter_tensors, encoder_folder, model_folder, tiny_vae_folder

REPO, VAE = "artist/style", "artist/tiny"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """One model with everything that such a repository holds besides what we fetch, and one tiny VAE."""
    served = Hub(
        {REPO: contents(model_folder(tmp_path / "style", "fp16")), VAE: contents(tiny_vae_folder(tmp_path / "tiny"))}
    )
    served.repos[REPO] |= {
        "unet/diffusion_pytorch_model.bin": b"\x80\x04pickle",
        "unet/diffusion_pytorch_model.safetensors": b"the large one",
        "pipeline.py": b"boom",
        "tokenizer/evil.py": b"boom",
        "README.md": b"# style",
    }
    declare()
    with serving(served):
        yield served


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def declare(revision: str = COMMIT, pin: str = "") -> None:
    """The user's models.toml: a model and its tiny VAE."""
    parts = ("unet", "vae", "text_encoder")
    stems = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
    files = ["model_index.json", "scheduler/scheduler_config.json", "tokenizer/*"]
    files += [f"{part}/config.json" for part in parts] + [f"{part}/{stems[part]}.fp16.safetensors" for part in parts]
    text = f"""
[models.style]
download = "style"
family = "sd15"
tiny_vae = "tiny"
[downloads.style]
repo = "{REPO}"
revision = "{revision}"
files = {json.dumps(files)}
licence = "none"
size_mb = 1
variant = "fp16"
[downloads.tiny]
repo = "{VAE}"
revision = "{revision}"
files = ["config.json", "diffusion_pytorch_model.safetensors"]
licence = "none"
size_mb = 1
"""
    if pin:
        text += f'sha256 = {{ "diffusion_pytorch_model.safetensors" = "{pin}" }}\n'
    modelfile.user_file().parent.mkdir(parents=True, exist_ok=True)
    modelfile.user_file().write_text(text)


def start(hub: Hub | None, *words: str, **extra: str) -> subprocess.Popen[str]:
    """The command in a process of its own: the client reads its endpoint when it is imported."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9", "HF_HOME": str(paths.home() / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "COLUMNS": "200", **extra,
    }  # fmt: skip
    command = [sys.executable, "-m", "bridge", "models", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=paths.ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def livelatent(hub: Hub | None, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    with start(hub, *words, **extra) as process:
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def leftovers() -> list[str]:
    pulling = paths.models() / ".pull"
    return [str(path) for path in pulling.rglob("*") if path.is_file()] if pulling.is_dir() else []


def test_a_model_is_pulled_listed_and_checked(hub: Hub) -> None:
    done = livelatent(hub, "pull", "style")
    assert done.returncode == 0, done.stderr
    assert "style is here: " in done.stdout
    entry = Registry.open().get("style")
    assert entry.here
    assert entry.tiny_vae_folder()
    names = set(contents(entry.folder()))
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in names
    assert "livelatent.json" in names
    assert not [name for name in names if name.endswith((".bin", ".py", ".md")) or name.startswith(".cache")]
    assert "unet/diffusion_pytorch_model.safetensors" not in names
    assert not [line for line in hub.requests if ".bin" in line or ".py" in line]
    assert all(f"/resolve/{COMMIT}/" in line for line in hub.requests if "/resolve/" in line)
    record = json.loads((entry.folder() / "livelatent.json").read_text())
    assert (record["source"], record["revision"]) == (REPO, COMMIT)
    weights = entry.folder() / "vae/diffusion_pytorch_model.fp16.safetensors"
    sha = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record["files"]["vae/diffusion_pytorch_model.fp16.safetensors"]["sha256"] == sha
    assert leftovers() == []
    assert livelatent(None, "check").returncode == 0
    again = livelatent(None, "pull", "style")
    assert (again.returncode, again.stdout) == (0, "style is here already\n")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    checked = livelatent(None, "check", "style")
    assert checked.returncode == 1
    assert "vae/diffusion_pytorch_model.fp16.safetensors has changed" in checked.stdout


def test_networks_that_make_hints_are_pulled_and_judged(hub: Hub, tmp_path: Path) -> None:
    folder = write_depth(tmp_path / "depth", "depth-anything")
    hub.repos["artist/depth"] = {**contents(folder), "pytorch_model.bin": b"\x80\x04pickle"}
    hub.repos["artist/pose"] = {"one.onnx": bytes(64), "two.onnx": bytes(64), "three.onnx": bytes(64)}
    with modelfile.user_file().open("a") as file:
        for kind, files in (("depth", '"*.json", "model.safetensors"'), ("pose", '"one.onnx", "two.onnx"')):
            file.write(
                f'[hintnets.my-{kind}]\nkind = "{kind}"\ndownload = "{kind}"\n[downloads.{kind}]\n'
                f'repo = "artist/{kind}"\nrevision = "{COMMIT}"\nfiles = [{files}]\nlicence = "MIT"\nsize_mb = 1\n'
            )
    config = json.loads(hub.repos["artist/depth"]["config.json"])
    hub.repos["artist/depth"]["config.json"] = json.dumps({**config, "depth_estimation_type": "metric"}).encode()
    refused = livelatent(hub, "pull", "my-depth")
    assert refused.returncode != 0
    assert "estimates metres" in refused.stdout + refused.stderr
    assert not Registry.open().hintnet_for("depth").here
    shutil.rmtree(paths.models() / ".pull")
    hub.repos["artist/depth"]["config.json"] = json.dumps(config).encode()
    done = livelatent(hub, "pull", "my-depth", "my-pose")
    assert done.returncode == 0, done.stderr
    assert "licence: MIT" in done.stdout
    assert not (Registry.open().hintnet_for("depth").folder() / "pytorch_model.bin").exists()
    names = {path.name for path in Registry.open().hintnet_for("pose").folder().iterdir()}
    assert names == {"one.onnx", "two.onnx", "livelatent.json"}
    assert livelatent(None, "check", "my-depth", "my-pose").returncode == 0


def test_after_a_cut_connection_it_goes_on_where_it_was(hub: Hub) -> None:
    """The client asks again for the rest."""
    big, size = "unet/diffusion_pytorch_model.fp16.safetensors", 24 << 20
    head = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    hub.repos[REPO][big] = len(head).to_bytes(8, "little") + head + os.urandom(size)
    hub.break_after[big] = 15 << 20  # the client writes 10 MiB at a time
    assert livelatent(hub, "pull", "style").returncode == 0
    assert (Registry.open().get("style").folder() / big).read_bytes() == hub.repos[REPO][big]
    asked = [line for line in hub.requests if line.startswith("GET") and big in line]
    assert len(asked) == 2
    assert "bytes=" in asked[1]


def test_a_pull_that_was_killed_goes_on(hub: Hub) -> None:
    """What was whole is kept, nothing half is ever taken for a model."""
    big = "unet/diffusion_pytorch_model.fp16.safetensors"
    hub.stall.add(big)
    with start(hub, "pull", "style") as process:
        deadline = time.monotonic() + 30
        while not any(line.startswith("GET") and big in line for line in hub.requests) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
    assert not Registry.open().get("style").here
    assert leftovers()
    hub.stall.clear()
    hub.requests.clear()
    assert livelatent(hub, "pull", "style").returncode == 0
    assert not [
        line for line in hub.requests if line.startswith("GET") and "/resolve/" in line and "model_index" in line
    ]


def test_what_has_come_is_not_fetched_again(hub: Hub) -> None:
    gone = hub.repos[REPO].pop("vae/config.json")
    hub.repos[REPO]["vae/config.json"] = b"not json"
    broken = livelatent(hub, "pull", "style")
    assert broken.returncode == 2
    assert "vae/config.json is not JSON" in broken.stderr
    assert not Registry.open().get("style").here
    hub.repos[REPO]["vae/config.json"] = gone
    hub.requests.clear()
    for name in list(hub.repos[REPO]):
        if name == "vae/config.json":
            (paths.models() / ".pull").joinpath(f"style-{COMMIT[:12]}", name).unlink()
    assert livelatent(hub, "pull", "style").returncode == 0
    fetched = [line for line in hub.requests if line.startswith("GET") and "/resolve/" in line and REPO in line]
    assert fetched == [f"GET /{REPO}/resolve/{COMMIT}/vae/config.json"]


def test_a_file_other_than_announced_is_thrown_away(hub: Hub) -> None:
    name = "unet/diffusion_pytorch_model.fp16.safetensors"
    hub.announced[name] = "0" * 64
    done = livelatent(hub, "pull", "style")
    assert done.returncode == 2
    assert f"{name} is not the file that the hub announced: thrown away" in done.stderr
    assert not Registry.open().get("style").here
    hub.announced.clear()
    assert livelatent(hub, "pull", "style").returncode == 0


def test_a_file_other_than_pinned_is_thrown_away(hub: Hub) -> None:
    declare(pin="0" * 64)
    done = livelatent(hub, "pull", "style")
    assert done.returncode == 2
    assert "diffusion_pytorch_model.safetensors is not the file that models.toml pins" in done.stderr
    declare(pin=hashlib.sha256(hub.repos[VAE]["diffusion_pytorch_model.safetensors"]).hexdigest())
    assert livelatent(hub, "pull", "style").returncode == 0
    assert livelatent(None, "check").returncode == 0


def test_what_is_served_is_judged_before_it_takes_its_place(hub: Hub) -> None:
    hub.repos[REPO]["model_index.json"] = json.dumps({"_class_name": "Mine", "unet": ["mine", "UNet"]}).encode()
    done = livelatent(hub, "pull", "style")
    assert done.returncode == 2
    assert "pipeline 'Mine'" in done.stderr
    hub.repos[VAE]["diffusion_pytorch_model.safetensors"] = b"\x80\x04\x95pickle"
    assert not paths.models().joinpath("style").exists()


@pytest.mark.parametrize("name", ["tokenizer/../../../evil.json", "tokenizer//etc/evil.json", "tokenizer/.hidden.json"])
def test_hostile_file_names_are_refused(name: str, hub: Hub) -> None:
    hub.repos[REPO][name] = b"{}"
    done = livelatent(hub, "pull", "style")
    assert done.returncode == 2
    assert "which we refuse" in done.stderr
    assert not list(paths.home().rglob("evil.json"))


def test_a_branch_is_resolved_to_one_commit(hub: Hub) -> None:
    """Trust on first use: the commit of the first pull is recorded."""
    declare(revision="main")
    assert livelatent(hub, "pull", "style").returncode == 0
    assert all(f"/resolve/{COMMIT}/" in line for line in hub.requests if "/resolve/" in line)
    record = json.loads((Registry.open().get("style").folder() / "livelatent.json").read_text())
    assert record["revision"] == COMMIT


@pytest.mark.parametrize("fault", ["no network", "offline", "no repository", "gated", "missing file"])
def test_every_failure_is_one_sentence(fault: str, hub: Hub) -> None:
    says = {
        "no network": "can't be fetched", "offline": "HF_HUB_OFFLINE is set", "no repository": "the hub has no",
        "gated": "asks you to accept its licence", "missing file": "has no vae/config.json",
    }[fault]  # fmt: skip
    if fault == "no repository":
        del hub.repos[REPO]
    elif fault == "gated":
        hub.gated.add(REPO)
    elif fault == "missing file":
        del hub.repos[REPO]["vae/config.json"]
    done = livelatent(
        None if fault == "no network" else hub, "pull", "style", HF_HUB_OFFLINE=str(int(fault == "offline"))
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert leftovers() == []


def test_an_image_adapter_is_pulled_with_its_encoder_and_checked(hub: Hub, tmp_path: Path) -> None:
    """Both lie in folders of one repository, beside pickles that nobody fetches."""
    (tmp_path / "ip" / "models").mkdir(parents=True)
    save_file(adapter_tensors(), tmp_path / "ip" / "models" / "ip.safetensors")
    encoder_folder(tmp_path / "ip" / "models" / "eyes")
    hub.repos["artist/ip"] = contents(tmp_path / "ip") | {"models/ip.bin": b"\x80\x04pickle"}
    common = f'repo = "artist/ip"\nrevision = "{COMMIT}"\nlicence = "none"\nsize_mb = 1\n'
    with modelfile.user_file().open("a") as file:
        file.write(
            '[ipadapters.ip]\ndownload = "ip-file"\nfile = "models/ip.safetensors"\nencoder = "eyes"\n'
            f'encoder_folder = "models/eyes"\n[downloads.ip-file]\n{common}files = ["models/ip.safetensors"]\n'
            f'[downloads.eyes]\n{common}files = ["models/eyes/config.json", "models/eyes/model.safetensors"]\n'
        )
    assert "not here" in str(livelatent(hub, "check", "ip").stdout)
    done = livelatent(hub, "pull", "ip")
    assert done.returncode == 0, done.stderr
    entry = Registry.open().ipadapter("ip")
    assert entry.here
    assert entry.file().parent.parent == (paths.models() / "ip-file").resolve()
    assert entry.encoder() == (paths.models() / "eyes" / "models" / "eyes").resolve()
    assert not [name for name in contents(paths.models()) if name.endswith(".bin")]
    checked = livelatent(hub, "check", "ip")
    assert (checked.returncode, "every file is as it came" in checked.stdout) == (0, True)
    with (entry.encoder() / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    checked = livelatent(hub, "check", "ip")
    assert checked.returncode == 1
    assert "model.safetensors has changed" in checked.stdout
