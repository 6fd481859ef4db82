"""Facts that travel with an image, from the transform that finds them to the one that needs them."""

from __future__ import annotations

from typing import Any, TypeVar

Self = TypeVar("Self", bound="Carried")


class Carried(str):
    """The base of objects that stay whole in the `meta` of a MetaTensor, one object for each image of a batch.

    `meta` is the only place that every host passes on: MONAI's engines, MONAI Label and MONAI Deploy keep only the
    image of what an inferer returns, and may keep only the image of a loaded item.

    The type is a text because MONAI 1.6.1 accepts no other object: `LoadImage` and `default_collate` refuse unknown
    classes, and `decollate_batch` takes apart or refuses everything but numbers and texts. Texts are collated to a
    list of one object for each image. The text is the name of the class.

    Objects do not change once they travel, so they are shared instead of copied (MONAI's caches copy items deeply).
    """

    def __new__(cls: type[Self], *arguments: Any, **keywords: Any) -> Self:
        """Return a new object; the arguments are the fields of the class."""
        return super().__new__(cls, cls.__name__)

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        """Return the object itself."""
        return self
