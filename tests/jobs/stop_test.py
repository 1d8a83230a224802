"""A signal ends the verbs that read and judge within seconds, in words, and the same command finishes."""

import os
import signal
import threading
import time

import pytest

LINES: dict[str, str] = {
    "measure": "measure --config=configs/measure/digits.py:quick --config.data.n_base=40 --config.set={set} "
    "--config.extractor.path={classifier}",
    "domain": "domain --config=configs/domain/digits.py:quick --config.set={set} --config.train.num_steps=1000",
    "score": "score --config=configs/score/classifier.py --config.set={set} --config.checkpoint={classifier}",
}
SECONDS = 20  # of which most is what other tests take of a machine


@pytest.mark.parametrize("verb", LINES)
def test_sigterm_ends_a_verb_at_work_within_seconds_in_words(cli, quick_study, tmp_path, verb):
    work, sent = tmp_path / "work", []

    def terminate() -> None:
        while not (work / "config.json").exists():  # the checks are done, and the lock is taken
            time.sleep(0.001)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    outcome = cli(LINES[verb] + " --workdir={work}", set=quick_study.made, classifier=quick_study.classifier, work=work)
    assert outcome.code == 143 and time.monotonic() - sent[0] < SECONDS
    assert "jaxmoust: Stopped on request" in outcome.err and "the same command continues" in outcome.err
    assert "Traceback" not in outcome.err and not (work / "result.json").exists() and not (work / ".lock").exists()
