"""One split of a prepared TFDS data set as random-access images: what tfds_source and open_synthetic share."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxmoust.data.loading.transforms import Encoded

_READ_AT_ONCE = 256  # one call for many records costs half as much; of ImageNet's they are 30 MB


class TfdsRecords:
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
        self._data_source = builder.as_data_source(split, deserialize_method=raw)
        self._features = builder.info.features.get_serialized_info()
        self._image_feature = image_feature
        self._channels = builder.info.features[image_feature].shape[-1]
        self._where = f"{builder.info.full_name}, split {split}, in {builder.data_dir}"
        self._parse_image = self._parser(image_feature)

    def _parser(self, feature: str) -> Callable[[bytes], dict[str, Any]]:
        from tensorflow_datasets.core.example_parser import ExampleParserNp

        return ExampleParserNp({feature: self._features[feature]}).parse_example

    def __len__(self) -> int:
        """The number of images."""
        return len(self._data_source)

    def __getitem__(self, i: int) -> np.ndarray:
        """Image i: uint8 [H, W, C], C as the set announces it."""
        return self.encoded(i).decode()

    def encoded(self, i: int) -> Encoded:
        """Image i as the record holds it."""
        try:
            data = self._parse_image(self._data_source[i])[self._image_feature]
        except (RuntimeError, ValueError, LookupError) as error:
            raise ValueError(
                f"Got an unreadable record, number {i} of {self._where}: {error}. Write that set again."
            ) from error
        return Encoded(data, self._channels, f"record {i} of {self._where}")

    def column(self, feature: str) -> np.ndarray:
        """One scalar feature of every record, without decoding an image: [N].

        Raises: ValueError: a record that cannot be read, with the range it lies in.
        """
        parse, values = self._parser(feature), []
        for start in range(0, len(self), _READ_AT_ONCE):
            rows = range(start, min(start + _READ_AT_ONCE, len(self)))
            try:
                values += [parse(record)[feature] for record in self._data_source.__getitems__(rows)]
            except (RuntimeError, ValueError, LookupError) as error:
                raise ValueError(
                    f"Got an unreadable record, one of {rows.start} to {rows.stop - 1} of {self._where}: {error}. "
                    f"Write that set again."
                ) from error
        return np.array(values)
