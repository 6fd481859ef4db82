"""The configuration of a node: a YAML or JSON file, and options of the command line that replace its entries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_type_hints

from medsr.bundle import DEFAULT_BUNDLE
from medsr.bundle.settings import SETTINGS
from medsr.errors import GridError, InputError, MedsrError

_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")  # PS3.5: no control character, no backslash
_PORTS = range(1, 65536)
_OF_BUNDLES = ("scale", "spacing", "precision", "memory_mb", "tile_size", "between_scales")


@dataclass(frozen=True)
class Destination:
    """The application that derived series are sent to.

    Attributes:
        ae_title: The AE title of the application.
        host: The name or address of its computer.
        port: The port that it listens on.
    """

    ae_title: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


@dataclass(frozen=True)
class Limits:
    """The limits on what a node takes.

    Attributes:
        queue_bytes: The size of everything in the queue. Above it, C-STORE is answered 0xA700 (out of resources).
        queue_series: The number of series that are not done yet.
        queue_instances: The number of images in these series.
        association_bytes: The number of bytes that one association may send before it is aborted.
        associations: The number of associations at a time.
    """

    queue_bytes: int = 20 << 30
    queue_series: int = 200
    queue_instances: int = 100_000
    association_bytes: int = 4 << 30
    associations: int = 8


@dataclass(frozen=True)
class NodeConfig:
    """The whole configuration of a node.

    Attributes:
        queue: The folder of the queue, on a local disk.
        destination: The application that derived series are sent to.
        callers: The AE titles that may send.
        allow_any_caller: Whether every AE title may send.
        ae_title: The AE title of the node, which senders must call.
        host: The address to listen on.
        port: The port to listen on.
        bundle: The name of an installed bundle, or a bundle's folder.
        scale: The enlargement, one number or one per array axis.
        spacing: The target voxel size in mm, instead of `scale`.
        device: The device, as for `medsr upscale`.
        precision: The precision, as for `medsr upscale`.
        memory_mb: The memory for activations, in MiB.
        tile_size: The tile size, as for `medsr upscale`; None leaves it to the bundle.
        between_scales: The setting of `medsr upscale`; None leaves it to the bundle.
        quiet_seconds: The time without images after which a study is complete.
        resume_seconds: The time that a sender which was cut off or refused has to send the rest.
        attempts: How often a job that fails through no fault of its own is started, and a refused series is sent.
        retry_seconds: The pause before the second attempt; it doubles each time.
        longest_retry_seconds: The longest pause between two attempts.
        give_up_hours: How long a destination may be away.
        network_seconds: How long a peer may be silent.
        keep_done_days: How long the images of finished jobs are kept; 0 deletes them at once.
        remember_days: How long the node remembers which series were done, so that it does none twice.
        keep_failed_days: How long failed jobs are kept.
        limits: The limits on what the node takes.
    """

    queue: Path
    destination: Destination
    callers: tuple[str, ...] = ()
    allow_any_caller: bool = False
    ae_title: str = "MEDSR"
    host: str = "127.0.0.1"
    port: int = 11112
    bundle: str = DEFAULT_BUNDLE
    scale: float | list[float] | None = None
    spacing: float | list[float] | None = None
    device: str = "auto"
    precision: str = "float32"
    memory_mb: int = 2048
    tile_size: int | list[int] | None = None
    between_scales: str | None = None
    quiet_seconds: float = 30.0
    resume_seconds: float = 900.0
    attempts: int = 3
    retry_seconds: float = 5.0
    longest_retry_seconds: float = 600.0
    give_up_hours: float = 72.0
    network_seconds: float = 60.0
    keep_done_days: float = 0.0
    remember_days: float = 90.0
    keep_failed_days: float = 30.0
    limits: Limits = field(default_factory=Limits)


def read_config(file: Path | None, options: Mapping[str, Any]) -> NodeConfig:
    """Return the configuration of a file with some entries replaced.

    Args:
        file: The YAML or JSON file; None takes `options` alone.
        options: The entries to replace; an entry with the value None stays as it is.

    Raises:
        InputError: If the file cannot be read, or an entry is unknown, missing or wrong.
    """
    given = {key: value for key, value in options.items() if value is not None}
    where = "the command line" if file is None else str(file)
    entries = {} if file is None else _read(file)
    if {"scale", "spacing"} & set(given):
        entries = {key: value for key, value in entries.items() if key not in ("scale", "spacing")}
    entries |= given
    for key, kind in (("destination", Destination), ("limits", Limits)):
        if isinstance(entries.get(key), Mapping):
            entries[key] = _made(kind, entries[key], f"{where}: {key}")
    config: NodeConfig = _made(NodeConfig, entries, where)
    _check(config, where)
    return config


def parse_destination(text: str) -> Destination:
    """Return the destination that a text of the form AE_TITLE@HOST:PORT names.

    Raises:
        InputError: If the text has another form.
    """
    match = re.fullmatch(r"([^@]+)@\[?([^@]+?)\]?:(\d{1,5})", text)
    if match is None:
        raise InputError(f"destination: expected AE_TITLE@HOST:PORT, got {text!r}; write it like PACS@192.0.2.7:104")
    return Destination(match[1], match[2], int(match[3]))


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(file.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}; check the name") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: expected YAML or JSON, got neither; correct the file ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected entries such as 'ae_title: MEDSR', got none; see docs/dicom_node.md")
    return {str(key): value for key, value in content.items()}


def _made(kind: type, entries: Mapping[str, Any], where: str) -> Any:
    """Return an object of a dataclass, made of checked entries."""
    hints, known = get_type_hints(kind), [item.name for item in fields(kind)]
    values = {}
    for key, value in entries.items():
        if key not in known:
            nearest = get_close_matches(key, known, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise InputError(f"{where}: there is no entry {key!r}; use one of {', '.join(known)}{hint}")
        if kind is NodeConfig and key in _OF_BUNDLES and value is not None:
            values[key] = _setting(key, value, where)
        else:
            values[key] = _converted(hints[key], value, f"{where}: {key}")
    try:
        return kind(**values)
    except TypeError:
        missing = [key for key in ("queue", "destination", "ae_title", "host", "port") if key in known]
        missing = [key for key in missing if key not in values]
        raise InputError(f"{where}: {missing[0]} is missing; add it (see docs/dicom_node.md)") from None


def _setting(key: str, value: Any, where: str) -> Any:
    """Return the value of an entry that is also a setting of bundles."""
    try:
        return SETTINGS[key].parse(key, value)
    except GridError as error:
        raise InputError(f"{where}: {key}: expected numbers above 0, got {value}: {error}") from None
    except MedsrError as error:
        raise InputError(f"{where}: {error}") from None


def _converted(hint: Any, value: Any, where: str) -> Any:
    """Return a value converted to the type of its entry."""
    if hint is Path and isinstance(value, str | Path) and str(value):
        return Path(value).expanduser().absolute()
    if hint is Destination and isinstance(value, str):
        return parse_destination(value)
    if hint == tuple[str, ...] and isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return tuple(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and number:
        return float(value)
    if hint is int and number and value == int(value):
        return int(value)
    if value is None and type(None) in get_args(hint):
        return None
    if hint in (str, bool, Destination, Limits) and isinstance(value, hint):
        return value
    name = getattr(hint, "__name__", str(hint))
    raise InputError(f"{where}: expected {_NAMES.get(hint, name)}, got {value!r}; see docs/dicom_node.md")


_NAMES: dict[Any, str] = {
    Path: "a folder",
    Destination: "ae_title, host and port, or AE_TITLE@HOST:PORT",
    Limits: "entries such as queue_series: 100",
    tuple[str, ...]: "a list of AE titles",
    float: "a number",
    int: "a whole number",
    str: "text",
    bool: "true or false",
}


def _check(config: NodeConfig, where: str) -> None:
    """Refuse values that make no sense, alone or together.

    Raises:
        InputError: If a value is out of range, or contradicts another one.
    """
    for title in (config.ae_title, config.destination.ae_title, *config.callers):
        if not _TITLE.fullmatch(title):
            raise InputError(
                f"{where}: expected an AE title of 1 to 16 ASCII characters but no backslash, got {title!r}; change it"
            )
    for port in (config.port, config.destination.port):
        if port not in _PORTS:
            raise InputError(f"{where}: expected a port from 1 to {_PORTS[-1]}, got {port}; choose another")
    if not config.callers and not config.allow_any_caller:
        raise InputError(
            f"{where}: expected AE titles that may send, got none; name them (callers, --caller), or let everyone send "
            "(--allow-any-caller)"
        )
    if (config.scale is None) == (config.spacing is None):
        got = "both; leave one out" if config.scale else "none; add one"
        raise InputError(f"{where}: expected either scale or spacing, got {got}")
    positive = {"attempts", "retry_seconds", "longest_retry_seconds", "give_up_hours", "network_seconds"}
    for part, least in ((config, positive), (config.limits, {item.name for item in fields(Limits)})):
        for item in fields(part):
            value = getattr(part, item.name)
            if not isinstance(value, int | float):
                continue
            if not 0 <= value < float("inf") or (value == 0 and item.name in least):
                bound = "above 0" if item.name in least else "of at least 0"
                raise InputError(f"{where}: {item.name}: expected a finite number {bound}, got {value}; correct it")
