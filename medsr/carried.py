"""Facts that travel with an image, from the transform that found them out to the one that needs them."""

from __future__ import annotations

from typing import Any, TypeVar

Self = TypeVar("Self", bound="Carried")


class Carried(str):
    """Base of objects that are kept whole in the `meta` of a MetaTensor, one object for each image of a batch.

    `meta` is the one place that every host hands on: MONAI's engines, MONAI Label and MONAI Deploy keep of what an
    inferer returns the image alone, and of a loaded item they may keep the image alone too.

    It is text by its type, since MONAI 1.6.1 lets no other object through: `LoadImage` and `default_collate` refuse
    classes that they do not know, and `decollate_batch` takes apart or refuses what is neither number nor text. Text
    is collated to a list of one object for each image. What it says is the name of its class.

    Objects are not changed once they travel, and so are shared instead of copied (MONAI's caches copy items deeply).
    """

    def __new__(cls: type[Self], *arguments: Any, **keywords: Any) -> Self:
        """Return the text; the arguments are those of the fields of the class."""
        return super().__new__(cls, cls.__name__)

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        """Return the object itself."""
        return self
