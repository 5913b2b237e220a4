"""Only what has the pinned checksum is installed, once, whoever asks at the same time."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from devstack import checksums, maven
from devstack.programs import DevstackError


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in for the download: a folder with a jar and an archive, pinned."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "kafka.jar").write_bytes(b"jar")
    with zipfile.ZipFile(folder / "elasticsearch.zip", "w") as archive:
        entry = zipfile.ZipInfo("elasticsearch-0/bin/elasticsearch")
        entry.external_attr = 0o100755 << 16
        archive.writestr(entry, "#!/bin/sh\n")
    pins = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(maven, "SHA256", pins)
    monkeypatch.setattr(maven, "find_maven", lambda: Path("mvn"))

    def download(_: Path, downloads: Path) -> None:
        downloads.mkdir()
        for path in folder.iterdir():
            (downloads / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(maven, "_download", download)
    return folder


def test_what_is_pinned_is_unpacked_and_can_be_run(published: Path, tmp_path: Path) -> None:
    distribution = maven.install(tmp_path / "cache")
    assert [path.name for path in distribution.kafka_libraries.iterdir()] == ["kafka.jar"]
    program = distribution.elasticsearch_home / "bin" / "elasticsearch"
    assert program.stat().st_mode & 0o777 == 0o755
    (published / "kafka.jar").unlink()  # what is cached is not fetched again
    assert maven.install(tmp_path / "cache") == distribution


@pytest.mark.parametrize("change", ["altered", "missing", "more"])
def test_another_checksum_is_a_clear_error_and_installs_nothing(
    published: Path, tmp_path: Path, change: str
) -> None:
    name = "more.jar" if change == "more" else "kafka.jar"
    (published / name).write_bytes(b"other") if change != "missing" else (published / name).unlink()
    with pytest.raises(DevstackError, match=rf"not the pinned ones(.|\n)*{name}: expected sha256"):
        maven.install(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["install.lock"]


def test_two_processes_download_once(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from devstack import maven\n"
        "def install(cache, home):\n"
        "    time.sleep(0.5); home.mkdir(); print('downloaded')\n"
        "maven._install = install\n"
        "maven.install(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert "".join(process.communicate()[0] for process in both) == "downloaded\n"
    assert [process.returncode for process in both] == [0, 0]


def test_every_pin_is_a_sha256() -> None:
    assert len(checksums.SHA256) == 47  # Kafka's 45 jars, its log binding, Elasticsearch
    assert all(len(bytes.fromhex(digest)) == 32 for digest in checksums.SHA256.values())
