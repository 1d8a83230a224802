"""Laws of jobs/evaluate.py: what it finds is what `train` found, of the checkpoint that is meant."""

import json

import numpy as np
import pytest
from command_line import RESNET, assert_refused, write_images

from jaxmoust.core.tree import named_leaves
from jaxmoust.runtime.checkpoint import restore_tree


def test_evaluate_refuses_a_folder_without_a_finished_classifier(cli, quick_study, tmp_path):
    line = "evaluate --config=configs/evaluate.py --config.checkpoint={origin} --workdir={work} "
    for origin in (tmp_path / "none", quick_study.generator):
        assert_refused(cli(line, origin=origin, work=tmp_path / "work"), str(origin), "no finished", "jaxmoust train")
    write_images(tmp_path / "images", classes="01")
    other = "--config.data.source=folder --config.data.path={path}"
    outcome = cli(line + other, origin=quick_study.classifier, work=tmp_path / "work", path=tmp_path / "images")
    assert_refused(outcome, "'9'", "['0', '1']")
    assert not (tmp_path / "work").exists()


def test_evaluate_equals_what_train_found(cli, tmp_path):
    """On the averaged parameters, which is what `train` judges when it keeps an average."""
    line = f"train {RESNET} --config.optim.ema_half_life_images=100 --workdir={{work}}"
    assert cli(line, work=tmp_path / "trained").code == 0
    line = "evaluate --config=configs/evaluate.py --config.checkpoint={origin} --workdir={work} "
    for batch_size in (256, 52):
        work = tmp_path / f"judged{batch_size}"
        outcome = cli(line + f"--config.eval.batch_size={batch_size}", origin=tmp_path / "trained", work=work)
        assert outcome.code == 0
        trained, judged = (json.loads((f / "result.json").read_text()) for f in (tmp_path / "trained", work))
        same = ("top1", "top5", "n", "per_class", "top1_interval")
        assert {k: judged[k] for k in same} == {k: trained[k] for k in same}
        np.testing.assert_array_equal(np.load(work / "ranks.npy"), np.load(tmp_path / "trained" / "ranks.npy"))


def test_checkpoint_at_best_is_the_best_one_and_another_content(cli, tmp_path):
    """Evaluated, and started from; a loss is best where it is lowest."""
    trained = tmp_path / "trained"
    line = f"train {RESNET} --config.train.eval_steps=2 --config.train.best_metric=loss --workdir={{work}}"
    assert cli(line + " --config.optim.learning_rate=3", work=trained).code == 0
    metrics = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = {of["step"]: of["eval_loss"] for of in metrics if "eval_loss" in of}
    best = min(losses, key=losses.get)
    line = "evaluate --config=configs/evaluate.py --config.checkpoint={origin} --workdir={work}"
    newest = cli(line, origin=trained, work=tmp_path / "evaluated")
    assert newest.code == 0
    assert_refused(cli(line, origin=f"{trained}@best", work=tmp_path / "evaluated"), "checkpoint: folder has content")
    assert cli(line, origin=f"{trained}@best", work=tmp_path / "best").code == 0
    found = json.loads((tmp_path / "best" / "result.json").read_text())
    assert found["loss"] == pytest.approx(losses[best], rel=1e-5) and best != max(losses)
    start = f"train {RESNET} --config.method.pretrained={trained}@best --config.optim.learning_rate=1e-12"
    assert cli(start + " --workdir={work}", work=tmp_path / "started").code == 0
    started, _ = restore_tree(tmp_path / "started" / "checkpoints", "params")
    begun, _ = restore_tree(trained / "checkpoints", "params", "best")
    for name, leaf in named_leaves(begun).items():
        np.testing.assert_allclose(named_leaves(started)[name], leaf, atol=1e-9)
