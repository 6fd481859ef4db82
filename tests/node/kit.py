"""The other ends of a node under test: processes of it, a sender, a destination, and Orthanc."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MediaStorageDirectoryStorage
from pynetdicom import AE, StoragePresentationContexts, evt

STATES = ("receiving", "waiting", "working", "sending", "done", "failed")
UNDONE = STATES[:4]
ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

# One process imports torch and MONAI, which takes seconds; every node is a fork of it: a process of its own, to kill.
_NURSERY = """
import ctypes, os, signal, sys
die_with_parent = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no test leaves a node behind
die_with_parent()
import medsr.cli, medsr.node.service
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
print("ready", flush=True)
for line in sys.stdin:
    log, *words = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child == 0:
        die_with_parent()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        try:
            status = medsr.cli.main(words)
        except SystemExit as leaving:
            status = leaving.code
        except BaseException:
            import traceback
            traceback.print_exc()
            status = 70
        sys.stderr.flush()
        os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


_GIVEN: set[int] = set()


def free_port() -> int:
    """Return a port that is free now, and that was not given out before: its user may not listen on it yet."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


def until(condition: Callable[[], Any], what: str, seconds: float = 30.0, pause: float = 0.02) -> Any:
    """Wait for something to be true, and return it; files that a node moves while they are looked at are no answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            value = condition()
        except FileNotFoundError:
            value = None
        if value:
            return value
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {what}")


class Nursery:
    """Starts nodes, one at a time."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _NURSERY],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def start(self, log: Path, words: Iterable[object]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print("\t".join([str(log), *map(str, words)]), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def status(self) -> int:
        """Exit status of the last node, once it has ended."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@dataclass
class Node:
    """A node under test: its configuration, its queue, and the process that runs at present."""

    nursery: Nursery
    folder: Path
    settings: dict[str, Any]
    pid: int | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "node.log"
        self.settings.setdefault("port", free_port())

    @property
    def queue(self) -> Path:
        return Path(self.settings["queue"])

    @property
    def port(self) -> int:
        return int(self.settings["port"])

    def start(self, *options: object) -> None:
        (self.folder / "node.json").write_text(json.dumps(self.settings))
        heard = self.text().count(" listens on ")
        self.pid = self.nursery.start(self.log, ["dicom-node", "--config", self.folder / "node.json", *options])
        until(lambda: self.text().count(" listens on ") > heard or not _alive(self.pid), "the node listens")
        assert _alive(self.pid), self.text()

    def end(self, number: int) -> int:
        """Send a signal, and wait for the exit status."""
        assert self.pid is not None
        os.kill(self.pid, number)
        self.pid = None
        return self.nursery.status()

    def kill(self) -> None:
        assert self.end(signal.SIGKILL) == -signal.SIGKILL

    def stop(self) -> None:
        assert self.end(signal.SIGTERM) == 0, self.text()

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def jobs(self, *states: str) -> list[Path]:
        return [job for state in states for job in sorted((self.queue / state).glob("*"))]

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
        try:
            return until(condition, what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()[-4000:]}") from None

    def idle(self, done: int) -> None:
        """Wait until so many jobs are done or failed, and none is on its way."""
        finished = lambda: len(self.jobs("done", "failed")) >= done and not self.jobs(*UNDONE)  # noqa: E731
        self.wait(finished, f"{done} jobs done")


def _alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class Archive:
    """A destination: keeps what it is sent, and counts how often.

    Attributes:
        answer: status of C-STORE, or a function of the image that gives it.
    """

    def __init__(self, port: int | None = None, title: str = "ARCHIVE") -> None:
        self.port, self.title = port or free_port(), title
        self.clear()
        self._lock = threading.Lock()
        self._ae = AE(title)
        self._ae.require_called_aet = True
        for context in StoragePresentationContexts:
            self._ae.add_supported_context(context.abstract_syntax)

    def clear(self) -> None:
        self.answer: Callable[[Any], int] = lambda image: 0
        self.images: dict[str, Any] = {}
        self.times: Counter[str] = Counter()
        self.changed: list[str] = []

    def open(self) -> Archive:
        self._ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        return self

    def close(self) -> None:
        self._ae.shutdown()

    def _store(self, event: Any) -> int:
        image = event.dataset
        status = self.answer(image)
        if status == 0:
            with self._lock:
                before = self.images.get(image.SOPInstanceUID)
                if before is not None and before != image:
                    self.changed.append(image.SOPInstanceUID)
                image.file_meta = event.file_meta
                self.images[image.SOPInstanceUID] = image
                self.times[image.SOPInstanceUID] += 1
        return status

    def series(self) -> dict[str, list[Any]]:
        """Images by the SeriesInstanceUID, in the order of InstanceNumber."""
        found: dict[str, list[Any]] = {}
        for image in sorted(self.images.copy().values(), key=lambda image: int(image.InstanceNumber)):
            found.setdefault(image.SeriesInstanceUID, []).append(image)
        return found


def send(
    node: Node,
    files: Iterable[Path],
    calling: str = "SCANNER",
    called: str = "MEDSR",
    after: Callable[[int, Any], None] = lambda count, association: None,
) -> list[int]:
    """C-STORE files as they are; the statuses. `after(count, association)` is called after each."""
    paths = list(files)
    association = associate(node, paths, calling, called)
    assert association.is_established, "refused"
    statuses = []
    for count, path in enumerate(paths, start=1):
        if not association.is_established:
            break
        try:
            answer = association.send_c_store(pydicom.dcmread(path))
        except RuntimeError:  # the node was killed after the line above looked
            break
        if "Status" not in answer:
            break
        statuses.append(int(answer.Status))
        after(count, association)
    with suppress(RuntimeError):
        if association.is_established:
            association.release()
    return statuses


def associate(node: Node, files: Iterable[Path] = (), calling: str = "SCANNER", called: str = "MEDSR") -> Any:
    """An association with a node, for files of any transfer syntax."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    wanted = {
        (meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
        for meta in (pydicom.filereader.read_file_meta_info(path) for path in files)
    }
    for storage, syntax in sorted(wanted):
        if storage != MediaStorageDirectoryStorage:
            ae.add_requested_context(storage, syntax)
    ae.add_requested_context("1.2.840.10008.1.1", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    return ae.associate("127.0.0.1", node.port, ae_title=called)


@dataclass
class Orthanc:
    """A running Orthanc, as a client of its REST interface."""

    url: str
    session: Any
    port: int
    title: str = "ORTHANC"

    @property
    def destination(self) -> str:
        """As a node's configuration has it."""
        return f"{self.title}@127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        answer = self.session.get(f"{self.url}{path}", timeout=20)
        answer.raise_for_status()
        return answer

    def upload(self, files: Iterable[Path]) -> None:
        for file in files:
            answer = self.session.post(f"{self.url}/instances", data=file.read_bytes(), timeout=20)
            answer.raise_for_status()

    def store(self, modality: str, resource: str) -> Any:
        """Have Orthanc C-STORE one of its series or studies."""
        answer = self.session.post(f"{self.url}/modalities/{modality}/store", data=resource, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def series(self) -> dict[str, str]:
        """Orthanc's names of series by their UIDs."""
        known = self.get("/series?expand").json()
        return {one["MainDicomTags"]["SeriesInstanceUID"]: one["ID"] for one in known}

    def fetch(self, series: str, folder: Path) -> Path:
        """Write the files of a series into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for instance in self.get(f"/series/{series}").json()["Instances"]:
            (folder / f"{instance}.dcm").write_bytes(self.get(f"/instances/{instance}/file").content)
        return folder


@contextmanager
def started_orthanc(folder: Path, node_port: int, session: Any) -> Iterator[Orthanc]:
    """Orthanc on loopback, for the length of a block; it knows the node as the modality "node"."""
    assert ORTHANC is not None
    ports = {"HttpPort": free_port(), "DicomPort": free_port()}
    config = {
        **ports,
        "DicomAet": "ORTHANC",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": False,
        "OverwriteInstances": False,
        "DicomModalities": {"node": {"AET": "MEDSR", "Host": "127.0.0.1", "Port": node_port, "AllowStore": True}},
        "Plugins": [],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(config))
    session.trust_env = False
    with (folder / "orthanc.log").open("wb") as log:
        words = [ORTHANC, str(folder / "orthanc.json")]
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        try:
            running = Orthanc(f"http://127.0.0.1:{ports['HttpPort']}", session, ports["DicomPort"])
            until(lambda: _answers(running, process, folder), "Orthanc answers", 60, 0.1)
            yield running
        finally:
            process.terminate()
            process.wait(20)


def _answers(orthanc: Orthanc, process: subprocess.Popen[bytes], folder: Path) -> bool:
    assert process.poll() is None, (folder / "orthanc.log").read_text()
    try:
        return orthanc.session.get(f"{orthanc.url}/system", timeout=5).ok
    except OSError:
        return False
