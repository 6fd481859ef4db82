"""What the app refuses, in one line that names neither paths nor patients; it stays up."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytestmark = [pytest.mark.server, pytest.mark.slow]

ANY_SCALE = "recnn3d"  # takes every request
PATIENT = "DOE_JOHN"


BAD_PARAMS = {
    "uint8": ({"result_dtype": "uint8", "result_extension": ".nrrd"}, "results are float32, got result_dtype uint8"),
    "both": ({"scale": 2, "spacing": 1}, "expected a scale or a target spacing, got both"),
    "reducing": ({"scale": 0.5}, "0.5"),
    "no number": ({"scale": "two"}, "expected one number or three"),
    "misspelt": ({"scal": 2}, "there is no parameter 'scal'"),
    "extension": ({"result_extension": "../../x"}, "results are written as"),
    "too large": ({"scale": 6}, "above the limit of 200,000"),
    "shear": ({"result_extension": ".nrrd"}, "expected orthogonal axes"),
    "device": ({"device": "tpu"}, "device 'tpu'"),
}


@pytest.mark.parametrize("name", BAD_PARAMS)
def test_requests_that_are_refused(server: Any, name: str, refused: Callable[..., None]) -> None:
    params, words = BAD_PARAMS[name]
    refused(server.infer(ANY_SCALE, "sheared", **params), 400, words)
    assert server.alive()


def test_unknown_model_or_image(server: Any, images: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    refused(server.infer("no_such_model", "packed"), 404, "there is no model 'no_such_model'")
    refused(server.batch("no_such_model"), 404, "there is no model 'no_such_model'")
    elsewhere = tmp_path / "elsewhere.nii.gz"
    shutil.copy(images / "packed.nii.gz", elsewhere)
    for image in ("no_such_image", str(elsewhere), "/etc/hostname", "../studies/packed.nii.gz", str(tmp_path)):
        refused(server.infer(ANY_SCALE, image), 404, "there is no such image")


def test_uploads_that_are_refused(
    server: Any,
    environment: dict[str, str],
    images: Path,
    inputs: Path,
    tmp_path: Path,
    phantom: Callable[..., Any],
    refused: Callable[..., None],
) -> None:
    temporary = Path(environment["TMPDIR"])
    before = set(temporary.iterdir())
    uploads = {}
    uploads["truncated.nii.gz"] = ((images / "packed.nii.gz").read_bytes()[:900], "the upload: ")
    uploads["empty.nrrd"] = (b"", "the upload")
    uploads["text.txt"] = (b"hello", "expected .nii.gz")
    secret = server.studies / "plain.nii"
    header = "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementSpacing = 1 1 1\nElementType = MET_UCHAR\n"
    header += f"ElementDataFile = {secret}\n"
    uploads["leak.mha"] = (header.encode(), "a header that names another")
    header = (
        f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nspacings: 1 1 1\nencoding: raw\ndata file: {secret}\n\n"
    )
    uploads["leak.nrrd"] = (header.encode(), "a header that names another")
    nib.save(nib.Nifti1Image(phantom((40, 40, 20)), np.eye(4)), tmp_path / "large.nii.gz")
    uploads["large.nii.gz"] = ((tmp_path / "large.nii.gz").read_bytes(), "expected at most 30000 voxels")
    archive = tmp_path / "slip.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(next((inputs / "series").iterdir()), "../../out.dcm")
    uploads["slip.zip"] = (archive.read_bytes(), "leads out of it")
    with zipfile.ZipFile(archive, "w") as opened:
        for file in sorted((inputs / "series").iterdir())[::9]:
            opened.writestr(file.name, file.read_bytes()[:-100])
    uploads["damaged.zip"] = (archive.read_bytes(), "of the upload")
    leaks = ("leak.mha", "leak.nrrd")
    for name, (content, words) in uploads.items():
        file = tmp_path / f"{PATIENT}.{name}"
        file.write_bytes(content)
        refused(server.infer(ANY_SCALE, upload=file), 400, words, str(secret))
        refused(server.put_image("new", file), 400, words, str(secret))
        if name in leaks:
            session = server.put_session(file).json()["session_id"]
            refused(server.infer(ANY_SCALE, f"session:{session}"), 400, words, str(secret))
        assert server.alive()
    refused(server.put_session(archive.rename(tmp_path / "x.tar"), uncompress=True), 400, "another kind of archive")
    assert set(temporary.iterdir()) <= before, "nothing of a refused upload stays behind"
    assert "new" not in server.get("/datastore/", output="all").json()["objects"]


def test_names_that_lead_out_of_the_datastore(server: Any, images: Path, refused: Callable[..., None]) -> None:
    refused(server.put_image("../outside", images / "packed.nii.gz"), 400, "expected an id or tag")
    refused(server.put_label("packed", images / "packed.nii.gz", tag="../../outside"), 400, "expected an id or tag")
    refused(server.infer(ANY_SCALE, "packed", save_label=True, label_tag="../x"), 400, "expected an id or tag")
    refused(server.put_label("nobody", images / "packed.nii.gz"), 400, "there is no image 'nobody'")
    assert not list(server.studies.parent.glob("outside*"))


def test_weights_stay_where_they_are(server: Any, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    file.write_bytes(b"nothing")
    before = (root / "models" / "model.pt").read_bytes()
    with file.open("rb") as stream:
        assert server.session.put(f"{server.url}/model/{root.name}", files={"file": stream}).status_code == 500
    assert server.session.delete(f"{server.url}/model/{root.name}").status_code == 404
    assert server.get(f"/model/{root.name}").status_code == 404
    assert (root / "models" / "model.pt").read_bytes() == before
