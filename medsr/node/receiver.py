"""The storage and verification SCP: who may send, what is taken, and what senders are answered."""

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
_HEAD = 16 << 20  # bytes within which these tags must lie
_PDU = 128 << 10  # bytes; the maximum PDU length that senders are told
_LONGEST_PDU = 1 << 20  # bytes; the limit that is enforced, because an association request may exceed `_PDU`

logger = logging.getLogger(__name__)


class Receiver:
    """The part of the node that listens, in threads of its own, until it is stopped.

    Args:
        config: The AE titles, the address and the limits.
        intake: The intake that takes the images.

    Raises:
        InputError: If the node cannot listen on the address.
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
            where = f"{config.host}:{config.port}"
            raise InputError(f"cannot listen on {where}: {reason}; choose another host or port") from error

    def stop(self) -> None:
        """Abort the open associations and stop listening."""
        self._ae.shutdown()

    def _connected(self, event: Any) -> None:
        """Set the limits on the socket itself, because pynetdicom reads as long and as much as a peer announces."""
        socket = event.assoc.dul.socket
        socket.socket.settimeout(self._config.network_seconds)  # covers a peer that falls silent within a message
        socket.recv = _limited(socket.recv, self._config.limits.association_bytes)

    def _accepted(self, event: Any) -> None:
        """Tell the intake about a new association."""
        self._intake.open(event.assoc)
        logger.info("association with %s", _peer(event))

    def _rejected(self, event: Any) -> None:
        """Log that an association was refused."""
        hint = "check callers and the called AE title, or raise limits.associations"
        logger.warning("refused an association with %s; %s", _peer(event), hint)

    def _heard(self, event: Any) -> None:
        """Note that the sender releases its association."""
        if isinstance(event.pdu, A_RELEASE_RQ):
            self._released.add(event.assoc)

    def _closed(self, event: Any) -> None:
        """Tell the intake that an association has ended, and whether its sender released it."""
        in_order = event.assoc in self._released
        self._released.discard(event.assoc)
        self._intake.close(event.assoc, in_order)
        logger.info("association with %s %s", _peer(event), "released" if in_order else "aborted or lost")

    def _store(self, event: Any) -> int:
        """Return the status that answers a C-STORE; it is success only once the image is on the disk."""
        try:
            classes, uids = _identify(event)
        except Exception as error:  # pydicom raises many kinds of error on a damaged header
            logger.warning("an image was refused: its header or UIDs cannot be read (%s)", type(error).__name__)
            return NOT_UNDERSTOOD
        if classes != str(event.request.AffectedSOPClassUID):
            logger.warning("image %s was refused: it has another SOP class than its sender announced", uids.instance)
            return OTHER_CLASS
        pixels = event.request.DataSet.getbuffer()

        def fill(file: IO[bytes]) -> None:
            file.write(b"\x00" * 128 + b"DICM" + encode_file_meta(event.file_meta))
            file.write(pixels)

        try:
            self._intake.accept(event.assoc, uids, len(pixels), fill)
        except Full as full:
            what = f"image {uids.instance} of series {uids.series}"
            logger.warning("%s was refused because the queue is full: %s; send it again later", what, full)
            return OUT_OF_RESOURCES
        except (OSError, OutputError) as error:
            logger.error("image %s could not be written (%s); check the disk", uids.instance, type(error).__name__)
            return FAILURE
        return SUCCESS


def silence_pynetdicom() -> None:
    """Turn off pynetdicom's log, which can show headers; the node logs its own lines instead."""
    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


def set_timeouts(ae: AE, seconds: float) -> None:
    """Set how long a peer may be silent, in seconds."""
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = seconds
    ae.connection_timeout = seconds


def _identify(event: Any) -> tuple[str, Instance]:
    """Return the SOP class and the UIDs of a received image, from its data set.

    Raises:
        Exception: If the data set is damaged or lacks a UID; the error may be of any class.
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
        raise ValueError("expected UIDs of at most 64 digits and dots")
    if instance != str(event.request.AffectedSOPInstanceUID):
        raise ValueError("expected the image that was announced, got another")
    return storage, Instance(study, series, instance)


def _limited(receive: Callable[[int], bytearray], most: int) -> Callable[[int], bytearray]:
    """Return a socket's `recv` that fails when a peer sends too much.

    Args:
        receive: The socket's own `recv`.
        most: The number of bytes that the peer may send in all.
    """
    total = 0

    def limited(count: int) -> bytearray:
        nonlocal total
        total += count
        if count > _LONGEST_PDU or total > most:
            hint = "raise limits.association_bytes to allow more"
            logger.warning("an association was cut off: it sent more than is allowed (%d bytes); %s", most, hint)
            raise ConnectionAbortedError
        return receive(count)

    return limited


def _peer(event: Any) -> str:
    """Return the AE title and the address of the peer."""
    requestor = event.assoc.requestor
    title = requestor.ae_title or "nobody"
    return f"{title!r} at {requestor.address}"
