"""Who may send, where the node listens, and how much one may send."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode

OTHER_CLASS, NOT_UNDERSTOOD = 0xA900, 0xC000
Series = Callable[..., list[Path]]


def test_callers(kit: Any, node: Any) -> None:
    node.start()
    assert kit.associate(node).is_established
    stranger = kit.associate(node, calling="STRANGER")
    assert stranger.is_rejected
    assert stranger.acceptor.primitive.diagnostic == 3  # calling AE title not recognised
    wrong = kit.associate(node, called="OTHER")
    assert wrong.is_rejected
    assert wrong.acceptor.primitive.diagnostic == 7  # called AE title not recognised
    node.wait(lambda: node.text().count("refused an association") == 2, "it is logged")
    node.stop()
    node.start("--allow-any-caller")
    assert kit.associate(node, calling="STRANGER").is_established
    assert kit.associate(node, calling="STRANGER", called="OTHER").is_rejected


def test_listens_on_loopback_alone(kit: Any, node: Any) -> None:
    node.start()
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = [
        line[1].split(":")[0] for line in listening if line[1].endswith(f":{node.port:04X}") and line[3] == "0A"
    ]
    assert addresses == ["0100007F"]


def test_other_classes_are_not_taken(kit: Any, node: Any, series: Series) -> None:
    node.start()
    association = kit.associate(node, series(1))
    image = pydicom.dcmread(series(1)[0])
    captures, dose = pydicom.uid.SecondaryCaptureImageStorage, pydicom.uid.XRayRadiationDoseSRStorage
    for key, value, status in (
        ("SOPClassUID", captures, OTHER_CLASS),  # announced as MR
        ("SeriesInstanceUID", "../../etc", NOT_UNDERSTOOD),
        ("StudyInstanceUID", None, NOT_UNDERSTOOD),
    ):
        wrong = copy.deepcopy(image)
        setattr(wrong, key, value)
        assert store_raw(association, wrong) == status
    assert store_raw(association, image) == 0
    association.release()
    assert len(node.jobs("receiving", "waiting", "working", "sending", "done")) == 1
    for other in (captures, dose):
        ae = kit.AE("SCANNER")
        ae.add_requested_context(other)
        assert not ae.associate("127.0.0.1", node.port, ae_title="MEDSR").accepted_contexts


def store_raw(association: Any, image: Any) -> int:
    """C-STORE announced as the MR image that the association is for, whatever the data set says."""
    request = C_STORE()
    request.MessageID, request.Priority = 1, 0
    request.AffectedSOPClassUID = pydicom.uid.MRImageStorage
    request.AffectedSOPInstanceUID = image.SOPInstanceUID
    request.DataSet = BytesIO(encode(image, False, True))
    context = next(one for one in association.accepted_contexts if one.abstract_syntax == pydicom.uid.MRImageStorage)
    association._reactor_checkpoint.clear()
    try:
        association.dimse.send_msg(request, context.context_id)
        return int(association.dimse.get_msg(block=True)[1].Status)
    finally:
        association._reactor_checkpoint.set()


def test_limits_of_an_association(kit: Any, node: Any, series: Series) -> None:
    files = series(1)
    node.settings["limits"] = {"association_bytes": 3000, "associations": 2}
    node.start()
    assert 1 <= len(kit.send(node, files)) < 4, "cut off"
    node.wait(lambda: "sent more than is allowed" in node.text() and "aborted or lost" in node.text(), "it is logged")
    open_ones = [kit.associate(node) for _ in range(2)]
    assert all(one.is_established for one in open_ones)
    assert kit.associate(node).is_rejected
    for one in open_ones:
        one.release()


def test_noise_before_any_association(kit: Any, node: Any) -> None:
    """The node hangs up: it waits neither for 4 GiB nor for the rest of a message."""
    node.settings["network_seconds"] = 1
    node.start()
    for start in (b"\x01\x00\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"\x04\x00\x00\x00\x00\x04"):
        with socket.create_connection(("127.0.0.1", node.port), 10) as connection:
            connection.sendall(start)
            connection.settimeout(10)
            with suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
    assert kit.associate(node).is_established
    assert "Traceback" not in node.text()
