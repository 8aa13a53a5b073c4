"""Fetch a download of models.toml: listed files at one commit, nothing that can carry code, each hash verified.

The transfer itself (resuming, redirects, tokens) is huggingface_hub's. Files arrive in a folder of their own, which
is judged and takes its place only when it is whole: a pull that breaks off never leaves half a model under an id.
"""

from __future__ import annotations

import re
import shutil
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from engines import hintfiles, manifest, paths, weights
from engines.errors import ModelError
from engines.modelrows import Download

_SAFE = (".safetensors", ".json", ".txt", ".onnx")
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}/){0,3}[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ORPHAN = re.compile(r"\.[0-9a-f]{8}\.incomplete")
"""What a killed client of version 2 leaves; earlier ones go on with theirs, whose names have no random part."""
NETS = frozenset({"AutoencoderTiny"}) | weights.CLASSES["controlnet"]
"""What a download of a single network may be."""


class Pull:
    """One download under way. `total` and `done()` are for a progress bar; `run()` blocks until it is in place."""

    def __init__(self, download: Download) -> None:
        self.download = download
        self.staging = paths.models() / ".pull" / f"{download.id}-{download.revision[:12]}"
        self.total = download.size_mb * 1_000_000

    def done(self) -> int:
        """Bytes on disk, those of the file under way included."""
        total = 0
        for path in self.staging.rglob("*"):
            try:
                total += path.stat().st_size if path.is_file() else 0
            except OSError:
                continue  # renamed or removed under our hands
        return total

    def run(self) -> Path:
        """Fetch what is missing and put it in place. Raises ModelError with a sentence; may be called again."""
        commit, files = self._listing()
        self.total = sum(size for size, _ in files.values())
        self._room()
        self.staging.mkdir(parents=True, exist_ok=True)
        for path in self.staging.rglob("*.incomplete"):
            if _ORPHAN.search(path.name):
                path.unlink()
        for name in files:
            self._call("hf_hub_download", filename=name, revision=commit, local_dir=self.staging)
        self._judge()
        record = manifest.record(self.staging, self.download.repo, commit)
        self._compare(record, {name: sha for name, (_, sha) in files.items()})
        shutil.rmtree(self.staging / ".cache", ignore_errors=True)
        manifest.write(self.staging / manifest.NAME, record)
        return settle(self.staging, self.download.folder())

    def _listing(self) -> tuple[str, dict[str, tuple[int, str]]]:
        """The commit, and size and sha256 (where the hub knows one) of every file we want."""
        info = self._call("repo_info", revision=self.download.revision, files_metadata=True)
        wanted: dict[str, tuple[int, str]] = {}
        for entry in info.siblings or ():
            name = entry.rfilename
            if name.endswith(_SAFE) and any(fnmatchcase(name, pattern) for pattern in self.download.files):
                if not _NAME.fullmatch(name) or ".." in name:
                    raise ModelError(f"{self.download.repo} lists the file name {name[:80]!a}, which we refuse")
                wanted[name] = (int(entry.size or 0), str(entry.lfs.sha256) if entry.lfs else "")
        for pattern in self.download.files:
            if not any(fnmatchcase(name, pattern) for name in wanted):
                raise ModelError(f"{self.download.repo} has no {pattern} at {self.download.revision[:12]}")
        if not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
            raise ModelError(f"{self.download.repo} does not say which commit it serves")
        return str(info.sha), wanted

    def _call(self, function: str, **arguments: Any) -> Any:
        """One request of huggingface_hub, its many errors as our sentence."""
        from huggingface_hub import HfApi, errors, hf_hub_download
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

        disable_progress_bars()
        # The base of its transport's errors: requests, httpx or httpx2, by its version.
        transport: type[Exception] = getattr(errors, "HTTPError", OSError)
        repo = self.download.repo
        call = hf_hub_download if function == "hf_hub_download" else getattr(HfApi(), function)
        try:
            return call(repo, **arguments)
        except errors.GatedRepoError as error:
            raise ModelError(f"{repo} asks you to accept its licence on the hub and to run `hf auth login`") from error
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
            raise ModelError(f"the hub has no {repo} at {self.download.revision[:12]}: {_first(error)}") from error
        except errors.OfflineModeIsEnabled as error:
            raise ModelError(f"{repo} can't be fetched: HF_HUB_OFFLINE is set") from error
        except (OSError, transport, ValueError, RuntimeError) as error:
            raise ModelError(
                f"{repo} can't be fetched ({_first(error)}): the files that are whole are kept, run it again"
            ) from error

    def _room(self) -> None:
        paths.models().mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(paths.models()).free
        missing = self.total - self.done()
        if missing > free:
            raise ModelError(f"{self.download.id} needs {missing / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free")

    def _judge(self) -> None:
        if (self.staging / "model_index.json").is_file():
            weights.check_folder(self.staging)
        elif (kind := hintfiles.find_kind(self.staging)) in ("depth", "pose"):
            hintfiles.check_hint(self.staging, kind)
        elif (self.staging / "config.json").is_file():
            weights.check_net(self.staging, NETS)
        else:
            weights.check_loose(self.staging)

    def _compare(self, record: manifest.Manifest, served: dict[str, str]) -> None:
        """What came against what the hub announced and what models.toml pins; a wrong file is thrown away."""
        for name, file in record.files.items():
            for says, sha in (
                ("the hub announced", served.get(name)),
                ("models.toml pins", self.download.sha256.get(name)),
            ):
                if sha and sha != file.sha256:
                    (self.staging / name).unlink()
                    raise ModelError(f"{self.download.id}: {name} is not the file that {says}: thrown away")


def settle(staging: Path, folder: Path) -> Path:
    """Move a finished folder to its place, whatever was there before."""
    old = folder.with_name(f".old-{folder.name}")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    staging.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
