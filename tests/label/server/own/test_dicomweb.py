"""A DICOMweb server as the app's studies: Orthanc, from Debian's packages `orthanc` and `orthanc-dicomweb`."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.server, pytest.mark.slow]

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
BUNDLE = "recnn3d"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> Iterator[str]:
    """Address of a DICOMweb server that holds the series."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None or not PLUGIN.is_file():
        pytest.skip("no Orthanc with DICOMweb: install the packages orthanc and orthanc-dicomweb")
    requests = pytest.importorskip("requests")
    folder = tmp_path_factory.mktemp("orthanc")
    with socket.socket() as http, socket.socket() as dicom:
        for probe in (http, dicom):
            probe.bind(("127.0.0.1", 0))
        ports = http.getsockname()[1], dicom.getsockname()[1]
    config = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": ports[0],
        "DicomPort": ports[1],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    url = f"http://127.0.0.1:{ports[0]}"
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], cwd=folder, stdout=log, stderr=log)
        try:
            session = requests.Session()
            session.trust_env = False
            until = time.monotonic() + 60
            while True:
                try:
                    session.get(f"{url}/system", timeout=5).raise_for_status()
                    break
                except OSError:
                    assert time.monotonic() < until, (folder / "log.txt").read_text()
                    assert process.poll() is None, (folder / "log.txt").read_text()
                    time.sleep(0.3)
            for file in (inputs / "series").iterdir():
                session.post(f"{url}/instances", data=file.read_bytes(), timeout=30).raise_for_status()
            yield f"{url}/dicom-web"
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def pacs(
    start_server: Callable[..., Any], medsr_app: Path, orthanc: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("pacs")
    shutil.copytree(medsr_app, folder / "app")
    with start_server(folder / "app", orthanc, folder / "log.txt", models=BUNDLE, skip_trainers="true") as started:
        yield started


def test_series_by_its_uid(
    pacs: Any,
    bundle_roots: list[Path],
    inputs: Path,
    direct: Callable[..., Any],
    check: Callable[..., None],
    refused: Callable[..., None],
) -> None:
    bundle = next(root for root in bundle_roots if root.name == BUNDLE)
    assert pacs.get("/info/").json()["datastore"]["total"] == 1
    answer = pacs.infer(BUNDLE, "1.2.3.4")
    assert answer.status_code == 200, answer.text
    check(answer.content, direct(bundle, inputs), "series", ".nii.gz")
    assert pacs.infer(BUNDLE, "1.2.3.4", result_extension="dicom").content.startswith(b"PK")
    for image in ("../../etc", "/etc/hostname"):
        refused(pacs.infer(BUNDLE, image), 404, "there is no such image")
    refused(pacs.infer(BUNDLE, "1.2.3.9"), 400, "gave no series of this UID")
    assert pacs.alive()
