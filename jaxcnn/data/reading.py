"""Options for reading a dataset, shared by all kinds of datasets."""

import dataclasses
from typing import get_args

from jaxcnn import shapes
from jaxcnn.data.decode import check_decoding
from jaxcnn.data.lazy import DecodedImages, Encoded, OnBad, check_on_bad
from jaxcnn.data.sources import ArraySource
from jaxcnn.data.splits import with_test_split
from jaxcnn.data.tables import LabelKind, Table, read_table

SIZE = (64, 64)
CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class Reading:
    """Options for reading a dataset.

    Attributes:
      size: (height, width) to resize images to; None means the dataset's own size.
      channels: 1 or 3; None means the dataset's own number of channels.
      test_fraction: fraction of each class to hold out as the test split if the data has none;
        None keeps the splits as they are.
      on_bad: ``"raise"`` an error for unreadable images, or ``"skip"`` them.
      group: column of a table, or regular expression for file names, that identifies groups.
      label_separator: string between the labels in a cell of a table.
      label_kind: kind of labels that a table contains, None to infer it.

    Raises:
      ValueError: if an option is out of range.
    """

    size: tuple[int, int] | None
    channels: int | None
    test_fraction: float | None
    on_bad: OnBad
    group: str | None = None
    label_separator: str | None = None
    label_kind: LabelKind | None = None

    def __post_init__(self) -> None:
        check_decoding(
            SIZE if self.size is None else self.size,
            CHANNELS if self.channels is None else self.channels,
        )
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels!r}")
        check_on_bad(self.on_bad)
        if self.label_kind not in (*get_args(LabelKind), None):
            raise ValueError(
                f"label_kind must be {', '.join(get_args(LabelKind))} or None, got "
                f"{self.label_kind!r}"
            )
        if self.label_separator == "":
            raise ValueError("label_separator must not be empty")
        if self.test_fraction is not None:
            shapes.check_probability(self.test_fraction, "test_fraction")

    def images(
        self, encoded: Encoded, own_size: tuple[int, int] = SIZE, own_channels: int = CHANNELS
    ) -> DecodedImages:
        """Return images that are decoded with these options when read."""
        return DecodedImages(
            encoded,
            size=self.size or own_size,
            channels=self.channels or own_channels,
            on_bad=self.on_bad,
        )

    def table(self, content: bytes, name: str) -> Table:
        """Read a table with these options."""
        return read_table(
            content,
            name,
            group=self.group,
            label_separator=self.label_separator,
            label_kind=self.label_kind,
        )

    def with_test_split(self, splits: dict[str, ArraySource], where: str) -> dict[str, ArraySource]:
        """Add a test split if there is none, unless ``test_fraction`` is None."""
        if self.test_fraction is None:
            return splits
        return with_test_split(splits, self.test_fraction, where)


AS_IS = Reading(size=None, channels=None, test_fraction=None, on_bad="raise")
"""Options that leave everything as it is in the dataset."""
