"""The confusion matrix as a chart: its cells, their order, and numbers where there is room."""

import numpy as np
import pytest

from jaxmoust.report.charts import base, confusion


@pytest.mark.parametrize(("num_classes", "has_text"), [(3, True), (13, False)])
def test_confusion_matrix_has_a_cell_for_each_share_above_none_and_numbers_where_there_is_room(num_classes, has_text):
    shares = np.eye(num_classes)
    shares[0, :2] = 0.875, 0.125
    shares[2] = np.nan  # a class without images
    chart = confusion.confusion_matrix(shares, [f'a very "long" name of <class {i}>' for i in range(num_classes)])
    spec = chart.to_dict()
    (_, *text), values = spec["layer"], spec["datasets"][spec["data"]["name"]]
    assert {(row["true"], row["predicted"]): row["share"] for row in values if not row["right"]} == {(0, 1): 0.125}
    assert len(values) == num_classes and bool(text) == has_text
    drawn = base.picture(chart, "words").svg
    assert drawn.count('fill="var(--worse)"') == 1 and ("12%" in drawn or "13%" in drawn) == has_text
    assert "0&gt;" in drawn and "<class" not in drawn
