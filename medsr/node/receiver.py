"""The storage and verification SCP: who may send, what is taken, and what a sender is told."""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import IO, Any

from pydicom import uid
from pydicom.filereader import read_dataset
from pynetdicom import AE, _config, evt
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.pdu import A_RELEASE_RQ
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from medsr.data.dicom.decoders import decodable_syntaxes
from medsr.errors import InputError, OutputError
from medsr.node.config import NodeConfig
from medsr.node.intake import Full, Instance, Intake

STORAGE_CLASSES = (uid.MRImageStorage, uid.EnhancedMRImageStorage, uid.CTImageStorage, uid.EnhancedCTImageStorage)
SUCCESS, FAILURE, OUT_OF_RESOURCES, OTHER_CLASS, NOT_UNDERSTOOD = 0x0000, 0x0110, 0xA700, 0xA900, 0xC000

_UID = re.compile(r"[0-9.]{1,64}")
_TAGS = (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)  # SOP class and instance, study, series
_HEAD = 16 << 20  # bytes within which these tags lie
_PDU = 128 << 10  # bytes; the longest a sender is told to send
_LONGEST_PDU = 1 << 20  # bytes; of an association request, say

logger = logging.getLogger(__name__)


class Receiver:
    """Listens as long as it is not stopped, in threads of its own.

    Args:
        config: Titles, address and limits.
        intake: Takes the images.

    Raises:
        InputError: If the address cannot be listened on.
    """

    def __init__(self, config: NodeConfig, intake: Intake) -> None:
        silence_pynetdicom()
        self._config, self._intake = config, intake
        self._released: set[Any] = set()
        self._ae = AE(ae_title=config.ae_title)
        self._ae.require_called_aet = True
        self._ae.require_calling_aet = [] if config.allow_any_caller else list(config.callers)
        self._ae.maximum_associations = config.limits.associations
        self._ae.maximum_pdu_size = _PDU
        set_timeouts(self._ae, config.network_seconds)
        self._ae.add_supported_context(Verification)
        for storage in STORAGE_CLASSES:
            self._ae.add_supported_context(storage, decodable_syntaxes())
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_PDU_RECV, self._heard),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_CLOSE, self._closed),
        ]
        try:
            self._ae.start_server((config.host, config.port), block=False, evt_handlers=handlers)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{config.host}:{config.port} cannot be listened on: {reason}; choose another") from error

    def stop(self) -> None:
        """Abort what is open, and listen no longer."""
        self._ae.shutdown()

    def _connected(self, event: Any) -> None:
        """Have the socket itself keep to the limits: pynetdicom reads as long and as much as a peer announces."""
        socket = event.assoc.dul.socket
        socket.socket.settimeout(self._config.network_seconds)  # else one that falls silent in a message is waited for
        socket.recv = _limited(socket.recv, self._config.limits.association_bytes)

    def _accepted(self, event: Any) -> None:
        self._intake.open(event.assoc)
        logger.info("association with %s", _peer(event))

    def _rejected(self, event: Any) -> None:
        logger.warning("refused an association with %s", _peer(event))

    def _heard(self, event: Any) -> None:
        if isinstance(event.pdu, A_RELEASE_RQ):
            self._released.add(event.assoc)

    def _closed(self, event: Any) -> None:
        in_order = event.assoc in self._released
        self._released.discard(event.assoc)
        self._intake.close(event.assoc, in_order)
        logger.info("association with %s %s", _peer(event), "released" if in_order else "ended out of turn")

    def _store(self, event: Any) -> int:
        """Answer a C-STORE; success only once the image is on the disk."""
        try:
            classes, uids = _identify(event)
        except Exception as error:  # anything that pydicom raises on a damaged header
            logger.warning("an image was refused: its header cannot be read (%s)", type(error).__name__)
            return NOT_UNDERSTOOD
        if classes != str(event.request.AffectedSOPClassUID):
            logger.warning("image %s was refused: it is of another SOP class than was said", uids.instance)
            return OTHER_CLASS
        pixels = event.request.DataSet.getbuffer()

        def fill(file: IO[bytes]) -> None:
            file.write(b"\x00" * 128 + b"DICM" + encode_file_meta(event.file_meta))
            file.write(pixels)

        try:
            self._intake.accept(event.assoc, uids, len(pixels), fill)
        except Full as full:
            logger.warning("image %s of series %s was refused, the queue is full: %s", uids.instance, uids.series, full)
            return OUT_OF_RESOURCES
        except (OSError, OutputError) as error:
            logger.error("image %s could not be written: %s", uids.instance, type(error).__name__)
            return FAILURE
        return SUCCESS


def silence_pynetdicom() -> None:
    """Keep pynetdicom's log off, which at lower levels shows headers; the node says itself what there is to say."""
    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


def set_timeouts(ae: AE, seconds: float) -> None:
    """Set how long a peer may be silent."""
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = seconds
    ae.connection_timeout = seconds


def _identify(event: Any) -> tuple[str, Instance]:
    """SOP class and UIDs of a received image, from its data set.

    Raises:
        Exception: Anything, if it is damaged or lacks a UID.
    """
    syntax = uid.UID(event.context.transfer_syntax)
    head = bytes(event.request.DataSet.getbuffer()[:_HEAD])
    if syntax.is_deflated:
        head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, _HEAD)
    header = read_dataset(
        BytesIO(head),
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=lambda tag, vr, length: tag > _TAGS[-1],
        specific_tags=list(_TAGS),
    )
    storage, instance, study, series = (str(header[tag].value) for tag in _TAGS)
    if not all(_UID.fullmatch(text) for text in (instance, study, series)):
        raise ValueError("a UID that is none")
    if instance != str(event.request.AffectedSOPInstanceUID):
        raise ValueError("not the image that was announced")
    return storage, Instance(study, series, instance)


def _limited(receive: Callable[[int], bytearray], most: int) -> Callable[[int], bytearray]:
    """Return a socket's `recv` that fails when a peer sends too much."""
    total = 0

    def limited(count: int) -> bytearray:
        nonlocal total
        total += count
        if count > _LONGEST_PDU or total > most:
            logger.warning("an association is cut off: it sent more than is allowed (%d bytes)", most)
            raise ConnectionAbortedError
        return receive(count)

    return limited


def _peer(event: Any) -> str:
    """Who is at the other end."""
    requestor = event.assoc.requestor
    title = requestor.ae_title or "nobody"
    return f"{title!r} at {requestor.address}"
