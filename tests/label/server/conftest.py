"""A real MONAI Label server on loopback, in an environment of its own, and a client for it.

`MEDSR_LABEL_PYTHON` names the Python of that environment (`deploy/monai_label/install.sh` makes one, `make test-label`
does both); without it the tests that need a server are skipped. Servers get their own home and studies, and proxies
that lead nowhere: whatever they tried to download would fail.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
BUNDLES = Path(os.environ.get("MEDSR_TEST_BUNDLES", REPOSITORY / "bundles"))
# those that super-resolve
ROOTS = sorted(p.parents[1] for p in BUNDLES.glob("*/configs/inference.json") if "SuperResolution" in p.read_text())
VARIABLE = "MEDSR_LABEL_PYTHON"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get(VARIABLE):
        for item in items:
            if item.get_closest_marker("server"):
                item.add_marker(pytest.mark.skip(reason=f"no {VARIABLE}: `make test-label` installs one and runs this"))


@pytest.fixture(scope="session", params=ROOTS, ids=lambda root: root.name)
def root(request: pytest.FixtureRequest) -> Path:
    """Every bundle, one after the other."""
    return request.param


@pytest.fixture(scope="session")
def bundle_roots() -> list[Path]:
    """All bundles, for a server that offers them together."""
    return ROOTS


@pytest.fixture(scope="session")
def label_python() -> str:
    """Interpreter of the server's environment."""
    return os.environ[VARIABLE]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a server: one thread (their number decides the order of sums), no network, a private home."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MONAI", "MEDSR", "PYTEST"))}
    nowhere = "http://127.0.0.1:9"
    return {
        **kept,
        "HOME": str(tmp_path_factory.mktemp("home")),
        "TMPDIR": str(tmp_path_factory.mktemp("tmp")),
        "OMP_NUM_THREADS": "1",
        "MEDSR_BUNDLES": str(BUNDLES),
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@dataclass
class Server:
    """A running server, as a client sees it."""

    url: str
    studies: Path | str
    log: Path
    process: subprocess.Popen[bytes]
    session: Any = field(repr=False)

    def get(self, path: str, **query: Any) -> Any:
        return self.session.get(f"{self.url}{path}", params=query, timeout=60)

    def infer(
        self, model: str, image: str = "", upload: Path | None = None, output: str = "image", **params: Any
    ) -> Any:
        """POST /infer, by datastore id, server path or session (`image`), or by upload."""
        where = "session_id" if image.startswith("session:") else "image"
        query = {"output": output, **({where: image.removeprefix("session:")} if image else {})}
        data = {"params": json.dumps(params)}
        if upload is None:
            return self.session.post(f"{self.url}/infer/{model}", params=query, data=data, timeout=120)
        with upload.open("rb") as stream:
            files = {"file": (upload.name, stream)}
            return self.session.post(f"{self.url}/infer/{model}", params=query, data=data, files=files, timeout=120)

    def batch(self, model: str, run_sync: bool = True, **params: Any) -> Any:
        body = {"device": "cpu", "multi_gpu": False, "max_workers": 1, **params}
        query = {"images": "all", "run_sync": run_sync}
        return self.session.post(f"{self.url}/batch/infer/{model}", params=query, json=body, timeout=300)

    def train(self, model: str, run_sync: bool, **params: Any) -> Any:
        body = {"device": "cpu", "multi_gpu": False, "max_epochs": 1, "val_split": 0.5, **params}
        return self.session.post(f"{self.url}/train/{model}", params={"run_sync": run_sync}, json=body, timeout=300)

    def finished(self, task: str, seconds: float = 240) -> dict[str, Any]:
        """The last background task of a kind ("train", "batch/infer"), once it is done or has failed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            state = self.get(f"/{task}/").json()
            if state["status"] not in ("SUBMITTED", "RUNNING"):
                return dict(state)
            time.sleep(0.5)
        raise AssertionError(f"{task} did not finish: {state}")

    def put_label(self, image: str, file: Path, tag: str = "final") -> Any:
        with file.open("rb") as stream:
            query = {"image": image, "tag": tag}
            return self.session.put(f"{self.url}/datastore/label", params=query, files={"label": (file.name, stream)})

    def put_image(self, image: str, file: Path) -> Any:
        with file.open("rb") as stream:
            query = {"image": image}
            return self.session.put(f"{self.url}/datastore/image", params=query, files={"file": (file.name, stream)})

    def put_session(self, *files: Path, uncompress: bool = False) -> Any:
        parts = [("files", (file.name, file.read_bytes())) for file in files]
        return self.session.put(f"{self.url}/session/", params={"uncompress": uncompress}, files=parts, timeout=60)

    def alive(self) -> bool:
        return self.process.poll() is None and self.get("/info/").status_code == 200


@pytest.fixture(scope="session")
def start_server(label_python: str, environment: dict[str, str]) -> Callable[..., Any]:
    """Start a server and stop it at the end of the block."""
    requests = pytest.importorskip("requests")

    @contextmanager
    def start(app: Path, studies: Path | str, log: Path, **conf: str) -> Iterator[Server]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [label_python, "-m", "monailabel.main", "start_server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--app", str(app), "--studies", str(studies)]
        command += [word for key, value in conf.items() for word in ("--conf", key, value)]
        session = requests.Session()
        session.trust_env = False
        session.headers["Connection"] = "close"  # the server drops the connection after an error, as it may
        with log.open("wb") as stream:
            process = subprocess.Popen(command, cwd=app.parent, env=environment, stdout=stream, stderr=stream)
            server = Server(f"http://127.0.0.1:{port}", studies, log, process, session)
            try:
                _wait(server)
                yield server
            finally:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(20)

    return start


def _wait(server: Server, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended:\n{server.log.read_text()[-4000:]}")
        try:
            if server.get("/info/").status_code == 200:
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the server does not answer:\n{server.log.read_text()[-4000:]}")


@dataclass(frozen=True)
class Direct:
    """What `python -m monai.bundle run` made of the images, in the server's environment."""

    folder: Path

    def array(self, stem: str) -> np.ndarray:
        return np.asarray(nib.load(self.folder / f"{stem}_sr.nii.gz").dataobj)

    def record(self, stem: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{stem}_sr.json").read_text())

    def affine(self, stem: str) -> np.ndarray:
        return np.array(self.record(stem)["sr_grid"]["affine"])


# One process for all runs: starting Python, torch and MONAI takes longer than a run. It reads a command line as JSON,
# and answers with "done" or with what `python -m monai.bundle` raised.
_RUNS = """
import json, runpy, sys, traceback
out, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    sys.argv = ["monai.bundle", *json.loads(line)]
    try:
        runpy.run_module("monai.bundle", run_name="__main__")
        answer = "done"
    except BaseException:
        answer = traceback.format_exc()
    print(json.dumps(answer), file=out, flush=True)
"""


@pytest.fixture(scope="session")
def direct(
    label_python: str, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Direct]]:
    """Run a bundle by its own command, in the server's environment; the same request is run once."""
    made: dict[str, Direct] = {}
    log = tmp_path_factory.mktemp("direct") / "log.txt"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [label_python, "-c", _RUNS],
            cwd=log.parent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None

    def run(root: Path, inputs: Path, **settings: Any) -> Direct:
        key = f"{root} {inputs} {sorted(settings.items())}"
        if key not in made:
            output = tmp_path_factory.mktemp("direct")
            options = {
                "config_file": root / "configs" / "inference.json",
                "bundle_root": root,
                "dataset_dir": inputs,
                "output_dir": output,
                "preview": False,
                "device": "cpu",
                **settings,
            }
            words = ["run", *(text for name, value in options.items() for text in (f"--{name}", str(value)))]
            print(json.dumps(words), file=process.stdin, flush=True)
            answer = json.loads(process.stdout.readline())
            assert answer == "done", answer
            made[key] = Direct(output)
        return made[key]

    yield run
    process.stdin.close()
    process.wait(20)
