r"""Verb `score`, task `score`: scores a synthetic set, or the real images, by a trained classifier, or by CLIP

Leaves scores.npy, a number for each image, in --workdir. Weighted and easy-to-hard samplers and filters read it by name
when it lies in the set's own folder scores/. Scores of the real images say which of them are hard, of which alone
`sample` then makes others (config.hard).

  jaxmoust score --config=configs/score/classifier.py --workdir=runs/edm_set/scores/confidence \
    --config.checkpoint=runs/real --config.set=runs/edm_set
  jaxmoust train --config=configs/classifier/digits_resnet.py:synthetic=runs/edm_set --workdir=runs/filtered \
    --config.data.scores=confidence --config.data.drop_lowest=0.2
"""

import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from jaxmoust import build
from jaxmoust.analysis.scores import SCORES, softened
from jaxmoust.config import Config, Field
from jaxmoust.core.checks import require
from jaxmoust.data.mixture import as_tuple
from jaxmoust.jobs.parts.classifier import (
    check_classes,
    image_shape,
    learnt_from_synthetic,
    open_classifier,
    score_summary,
    seen_by,
    to_time,
)
from jaxmoust.jobs.parts.cross_fit import CrossFit, check_trained, shortened
from jaxmoust.jobs.parts.job import Job
from jaxmoust.jobs.parts.streams import evaluation_batch_size, evaluation_stream, seconds_an_image, write_array
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.train import predict
from jaxmoust.train.loop import seconds_a_step


class Score(Job):
    """Scores every image of a synthetic set, or of the base set, by a trained classifier.

    A classifier that has learnt from the very images scores them only cross-fitted (config.folds): trained anew for
    each fold of them, without it.
    """

    sections = {
        "checkpoint": Field("", str, "the folder of a trained classifier; DIR@best takes its best checkpoint"),
        "set": Field(
            "", str, "the folder of the synthetic set; '' the real images that the classifier learnt from, with folds"
        ),
        "score": Field(
            "confidence", Literal[tuple(SCORES)], "certainty is 1 less the entropy; `domain` leaves the density ratio"
        ),
        "folds": Field(0, int, "cross-fit: train anew without each of so many folds of the images; 0 is off"),
        "part": Field(
            1.0, float, "cross-fitted, the part of the training's steps; of less, low scores say what is learnt late"
        ),
        "eval": build.EVAL,
    }
    refers = ("checkpoint", "set")

    def check(self) -> None:
        """Refuses what cannot run, or, without folds, a classifier that has learnt from images of the set."""
        config = self.config
        if not config["checkpoint"] or not (config["set"] or config["folds"]):
            raise ValueError(
                "config.checkpoint or config.set is empty: give the folders of a trained classifier and of a set, "
                "--config.checkpoint=DIR --config.set=DIR; or to score the real images that the classifier learnt "
                "from, --config.folds=2 in the place of the set."
            )
        if config["folds"] < 0 or config["folds"] == 1:
            raise ValueError(f"config.folds is {config['folds']!r}, expected 0 (no cross-fitting), or 2 and up.")
        evaluation_batch_size(config, self.machine)
        self.output = self.inputs.output(config["checkpoint"], "classify", "train")
        if config["set"]:
            self.scored = self.inputs.synthetic(config["set"])
            check_classes(self.output, self.scored)
            self.seen = seen_by(self.output, self.scored)
        else:
            self.scored, self.seen = self.inputs.real(self.output.config["data"]).distinct, True
            if learnt_from_synthetic(self.output.result):
                raise ValueError(
                    f"config.set is empty and the classifier {config['checkpoint']} has learnt from synthetic images, "
                    "which may show what is held out: score the real images by one that learnt from them alone."
                )
        require(0 < config["part"] <= 1, "config.part", config["part"], "numbers above 0, up to 1 (the whole training)")
        if self.seen and not config["folds"]:
            raise ValueError(
                f"The classifier {config['checkpoint']} was itself trained on images of {config['set']}, or of a set "
                "that was sampled alike: how sure it is of them says what it remembers, not what they show. Score by "
                "one that was trained on real images, or on other sets; or cross-fit: --config.folds=2 (in a study, "
                "folds=2 beside the score's config) trains it anew on each half of the set, to score the other."
            )
        if self.seen:
            check_trained(self.output.config)
        elif config["part"] != 1:
            raise ValueError(
                f"config.part {config['part']} would do nothing: {config['checkpoint']} has not learnt from "
                f"{config['set']}, and scores it as it is. Leave it 1.0."
            )

    def promise(self) -> dict[str, Any]:
        """What is known of the scores."""
        return {"n": len(self.scored), "set_digest": self.scored.digest}

    def open(self) -> None:
        """Opens the streams of the images, or the trainings of the folds."""
        output, images, config = self.output, self.scored, self.config
        if self.seen:
            sets = [self.inputs.synthetic(ref, images) for ref in as_tuple(output.config["data"]["synthetic"])]
            real = self.inputs.real(output.config["data"])
            training = build.make_classifier(output.config, real, self.machine)
            self.logits = CrossFit(config, output.config, real, training, images, sets, self.machine).logits
            return
        one = open_classifier(output, images)
        data = evaluation_stream(images, one.form, config, self.machine)
        self.logits = lambda folder: predict.logits(one.task, one.state, data, self.machine)

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Scores."""
        started, images, done = time.monotonic(), self.scored, self.output.result
        score = SCORES[self.config["score"]]
        values = softened(score, self.logits(folder), images.labels, images.soft).astype(np.float32)
        write_array(folder.path / "scores.npy", values, self.machine)
        return {
            **self.promise(),
            **score_summary(self.config["score"], values),
            "folds": self.config["folds"] if self.seen else 0,
            "image_shape": image_shape(self.output),
            "own_shape": images.shape,
            "data_digest": done["data_digest"],
            "test_digest": done["test_digest"],
            "seconds": time.monotonic() - started,
        }

    def calibrate(self) -> float:
        """By a batch of black images; of a cross-fitted score, which trains first, by one step."""
        if self.seen:
            real = self.inputs.real(self.output.config["data"])
            training = build.make_classifier(self.output.config, real, self.machine)
            frozen = training.task.frozen(None, training.task.base())
            step = seconds_a_step(training, self.machine, real.shape, frozen)
            return self.config["folds"] * shortened(training.recipe, self.config["part"]).num_steps * step
        one = to_time(self.output)

        def ask(data: Any) -> Any:
            return predict.logits(one.task, one.state, data, self.machine)

        return len(self.scored) * seconds_an_image(ask, one.form.shape, self.config, self.machine)

    @staticmethod
    def work(config: Config, size_of: Callable[[str], int]) -> float:
        """Images of the set."""
        return float(size_of(config["set"]))


JOB = Score
