"""One split of a prepared TFDS data set as random-access images: what tfds_source and open_synthetic share."""

from typing import Any

import numpy as np

from jaxmoust.data.image import Encoded, EncodedImages

_READ_AT_ONCE = 256  # one call for many records costs half as much; of ImageNet's they are 30 MB


class TfdsRecords(EncodedImages):
    """Images of a prepared TFDS split, read at random and decoded here.

    Only the asked feature of a record is parsed, and TFDS does not decode it: with nothing but numpy and PIL,
    TFDS's own decoding takes twice as long, and its result depends on what else is installed.
    """

    def __init__(self, builder: Any, split: str, image_feature: str) -> None:
        """Opens the split; builder is a tfds.core.DatasetBuilder.

        Raises: whatever TFDS raises for a set that is not prepared as ArrayRecord, or has no such split.
        """
        import tensorflow_datasets as tfds

        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._records = builder.as_data_source(split, deserialize_method=raw)
        self._features = builder.info.features.get_serialized_info()
        self._image_feature = image_feature
        self._channels = builder.info.features[image_feature].shape[-1]
        self._where = f"{builder.info.full_name}, split {split}, in {builder.data_dir}"
        self._image_parser = self._parser(image_feature)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._records)

    def encoded(self, i: int) -> Encoded:
        """Image i as the record holds it."""
        (data,) = self._read(self._image_parser, self._image_feature, range(i, i + 1))
        return Encoded(data, self._channels, f"record {i} of {self._where}")

    def column(self, feature: str) -> np.ndarray:
        """One scalar feature of every record, without decoding an image: [N].

        Raises: ValueError: a record that cannot be read, with the range it lies in.
        """
        starts = range(0, len(self), _READ_AT_ONCE)
        parts = [range(start, min(start + _READ_AT_ONCE, len(self))) for start in starts]
        parser = self._parser(feature)
        return np.array([value for part in parts for value in self._read(parser, feature, part)])

    def _parser(self, feature: str) -> Any:
        from tensorflow_datasets.core.example_parser import ExampleParserNp

        return ExampleParserNp({feature: self._features[feature]})

    def _read(self, parser: Any, feature: str, rows: range) -> list[Any]:
        try:
            values = [parser.parse_example(record)[feature] for record in self._records.__getitems__(rows)]
            if len(values) != len(rows) or any(value is None for value in values):  # of a file that was cut
                raise ValueError(f"it has no {feature}")
            return values
        except (RuntimeError, ValueError, LookupError) as error:
            which = f"one of {rows[0]} to {rows[-1]}" if len(rows) > 1 else f"number {rows[0]}"
            raise ValueError(f"Got an unreadable record, {which} of {self._where}: {error}. Write it again.") from error
