"""Verb `evaluate`, task `evaluate`: evaluates a trained classifier on a test set

Every test image is counted once, at any batch size and number of devices. Leaves what `train` leaves of its test
images.

  jaxmoust evaluate --config=configs/evaluate.py --workdir=runs/real_eval --config.checkpoint=runs/real
"""

import functools
import time
from typing import Any

from jaxmoust import build
from jaxmoust.config import Field, fields
from jaxmoust.data.source import Source
from jaxmoust.data.sources.image_folder import Rules
from jaxmoust.data.sources.registry import open_source
from jaxmoust.jobs.parts.classifier import accuracies, check_classes, keeping, open_classifier
from jaxmoust.jobs.parts.inputs import Output, rules_of
from jaxmoust.jobs.parts.job import Job
from jaxmoust.jobs.parts.streams import evaluation_stream
from jaxmoust.runtime.folder import RunFolder


class Evaluate(Job):
    """Evaluates a classifier on a split of a data set."""

    sections = {
        "checkpoint": Field("", str, "the folder of a trained classifier; DIR@best takes its best checkpoint"),
        "data": {
            "source": Field("", str, "the data set; '' is the one that the classifier was trained on"),
            "path": Field("", str, "where it lies"),
            "classes": Field("", str, "a text file with the classes to use, one a line"),
            "split": Field("test", str, "the part of it"),
            **fields(Rules),
        },
        "eval": {**build.EVAL, **build.KEEP},
    }
    refers = ("checkpoint",)

    @functools.cached_property
    def output(self) -> Output:
        """The classifier's run."""
        if not self.config["checkpoint"]:
            raise ValueError(
                "config.checkpoint is empty: give the folder of a trained classifier, --config.checkpoint=DIR."
            )
        return self.inputs.output(self.config["checkpoint"], "classify", "train")

    @functools.cached_property
    def test(self) -> Source:
        """The images: those that the configuration names, or the classifier's own data set."""
        data = dict(self.config["data"])
        if not data["source"]:
            data |= {name: value for name, value in self.output.config["data"].items() if name in data}
        rules = rules_of(data)
        look = self.inputs.look(rules.near_duplicates_by)
        return open_source(data["source"], data["split"], data["path"], data["classes"], rules, look)

    def check(self) -> None:
        """Refuses a classifier of other classes than the images have."""
        check_classes(self.output, self.test)

    def open(self) -> None:
        """Reads the classifier, and opens the stream."""
        self.classifier = one = open_classifier(self.output, self.test)
        self.task = keeping(one.task, self.config["eval"]["keep"], self.test)
        self.data = evaluation_stream(self.test, one.form, self.config, self.machine)

    def contents(self) -> dict[str, str]:
        """The classifier and the images."""
        return {**super().contents(), "data.images": self.test.digest}

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Evaluates."""
        started, one = time.monotonic(), self.classifier
        evaluation = self.task.evaluate(self.machine.replicate(one.state), None, self.data, self.machine)
        found = accuracies(evaluation, self.test, one.shape, folder, self.machine)
        return {**found, "seconds": time.monotonic() - started}


JOB = Evaluate
