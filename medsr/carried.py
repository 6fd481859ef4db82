"""Facts that travel with an image, from the transform that found them out to the one that needs them."""

from __future__ import annotations

from typing import Any, TypeVar

from torch.utils.data._utils.collate import default_collate_fn_map

Self = TypeVar("Self", bound="Carried")


class Carried:
    """Base of objects that are kept whole in the `meta` of a MetaTensor, one object for each image of a batch.

    `meta` is the one place that every host hands on: MONAI's engines, MONAI Label and MONAI Deploy keep of what an
    inferer returns the image alone, and of a loaded item they may keep the image alone too.

    A batch has a list of such objects. Torch refuses to collate classes it does not know, so this one is registered
    with it, in the documented way. `monai.data.decollate_batch` takes every other object apart, but for scalars: what
    has no dimensions is handed on as its `item`.

    Objects are not changed once they travel, and so are shared instead of copied (MONAI's caches copy items deeply).
    """

    ndim = 0

    def item(self: Self) -> Self:
        """Return the object itself, as `decollate_batch` wants it of a scalar."""
        return self

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        """Return the object itself."""
        return self


def _as_list(batch: list[Carried], **_: Any) -> list[Carried]:
    return list(batch)


default_collate_fn_map[Carried] = _as_list
