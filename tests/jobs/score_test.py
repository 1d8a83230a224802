"""Laws of jobs/score.py: who may score a set, and what its scores are read by."""

import json
import shutil

import numpy as np
import pytest
from command_line import RESNET, assert_refused
from PIL import Image

from jaxmoust.data.pool import Pool
from jaxmoust.data.sources import registry as sources
from jaxmoust.data.synthetic.store import open_synthetic
from jaxmoust.jobs.parts.inputs import Inputs
from jaxmoust.jobs.parts.job import do


def test_scores_beside_a_set_are_read_by_name(cli, train_mixed, quick_study, tmp_path):
    """Score, then filter by the scores: exactly the lowest fifth is gone, and what was drawn is on record."""
    made = shutil.copytree(quick_study.made, tmp_path / "set")
    assert cli(f"train {RESNET} --workdir={{work}}", work=tmp_path / "judge").code == 0
    line = "score --config=configs/score/classifier.py --config.checkpoint={judge} --config.set={made} --workdir={work}"
    given = {"judge": tmp_path / "judge", "made": made, "work": made / "scores" / "confidence"}
    outcome = cli(line, **given)
    assert outcome.code == 0 and "score confidence" in outcome.out
    scores = np.load(made / "scores" / "confidence" / "scores.npy")
    assert scores.shape == (40,) and np.all((scores > 0) & (scores < 1))

    filtered = "--config.data.scores=confidence --config.data.drop_lowest=0.2 --config.data.drop_per_class=False"
    assert train_mixed(made, filtered).code == 0
    result, drawn = (json.loads((tmp_path / "work" / f).read_text()) for f in ("result.json", "draws.json"))
    assert result["n_synthetic"] == 32 and "kept=132" in result["sampler"]
    assert drawn["source_names"] == ["real", "edm"] and drawn["step_edges"] == list(range(11))
    assert np.array(drawn["counts"]).sum(axis=(1, 2)).tolist() == [32] * 10
    np.testing.assert_array_equal(np.array(drawn["counts"]).sum(axis=(0, 2)), [160, 160])


@pytest.mark.parametrize("n_synthetic", [0, 30])
def test_score_by_a_classifier_that_has_learnt_from_the_set_is_refused(
    cli, train_mixed, quick_study, tmp_path, n_synthetic
):
    made = quick_study.made
    assert train_mixed(made, f"--config.data.n_synthetic={n_synthetic}").code == 0
    line = "score --config=configs/score/classifier.py --config.checkpoint={judge} --config.set={made} --workdir={work}"
    outcome = cli(line, judge=tmp_path / "work", made=made, work=tmp_path / "scores")
    assert_refused(outcome, "was itself trained on", "trained on real images", "--config.folds=2")
    other = quick_study.stage("sample", name="ddpm", seed=0)
    assert cli(line, judge=tmp_path / "work", made=other, work=tmp_path / "scores").code == 0


def test_score_knows_images_of_a_longer_or_a_shorter_set_that_was_drawn_alike(cli, quick_study, train_mixed, tmp_path):
    config = json.loads((quick_study.made / "config.json").read_text())
    short = {**config, "name": "short", "num_images": 20, "generator": str(quick_study.generator)}
    do(short, tmp_path / "short")
    line = "score --config=configs/score/classifier.py --config.checkpoint={judge} --config.set={made} --workdir={work}"
    assert train_mixed(quick_study.made).code == 0
    outcome = cli(line, judge=tmp_path / "work", made=tmp_path / "short", work=tmp_path / "scores")
    assert_refused(outcome, "was itself trained on")


@pytest.fixture
def pools(monkeypatch):
    """How many images of each source the pools have that are made meanwhile."""
    asked, from_sources = [], Pool.from_sources

    def watched(sources):
        asked.append([len(source) for source in sources])
        return from_sources(sources)

    monkeypatch.setattr(Pool, "from_sources", staticmethod(watched))
    return asked


def test_score_cross_fitted_judges_every_image_by_who_has_not_seen_it(cli, train_mixed, quick_study, tmp_path, pools):
    made = quick_study.made
    assert train_mixed(made, "--config.data.n_synthetic=30").code == 0
    pools.clear()
    line = (
        "score --config=configs/score/classifier.py --config.folds=2 --config.checkpoint={judge} --config.set={made} "
        "--workdir={work}"
    )
    assert cli(line, judge=tmp_path / "work", made=made, work=tmp_path / "scores").code == 0
    result, scores = json.loads((tmp_path / "scores/result.json").read_text()), np.load(tmp_path / "scores/scores.npy")
    assert result["folds"] == 2 and scores.shape == (40,) and np.all((scores > 0) & (scores < 1))
    assert (tmp_path / "scores/fold0/checkpoints").is_dir() and (tmp_path / "scores/fold1/checkpoints").is_dir()
    # Of the 30 that the classifier learnt from each is kept from exactly one of the two.
    assert [sizes[0] for sizes in pools] == [100, 100] and sum(sizes[1] for sizes in pools) == 30


def test_real_images_are_scored_by_who_has_not_seen_them_and_the_hardest_have_children(cli, tmp_path, pools):
    assert cli(f"train {RESNET} --workdir={{work}}", work=tmp_path / "real").code == 0
    pools.clear()
    line = "score --config=configs/score/classifier.py --config.checkpoint={real} --workdir={work} {more}"
    given = {"real": tmp_path / "real", "work": tmp_path / "late"}
    assert cli(line, **given, more="--config.folds=2 --config.part=0.5").code == 0
    result, scores = json.loads((tmp_path / "late/result.json").read_text()), np.load(tmp_path / "late/scores.npy")
    assert pools == [[50], [50]] and result["folds"] == 2 and scores.shape == (100,)
    assert len((tmp_path / "late/fold1/metrics.jsonl").read_text().splitlines()) > 0
    assert_refused(
        cli(line, real=given["real"], work=tmp_path / "no", more=""), "score the real images", "--config.folds=2"
    )

    children = (
        "sample --config=configs/sample/tiny_sd.py:quick --config.data.n_base=100 --config.from_real=true "
        "--config.hard.scores={late} --config.num_images=100 --workdir={work} {more}"
    )
    given = {"late": tmp_path / "late", "work": tmp_path / "set"}
    assert cli(children, **given, more="--config.hard.part=0.3").code == 0
    made = open_synthetic(tmp_path / "set")
    real = Inputs().real(json.loads((tmp_path / "set/config.json").read_text())["data"]).distinct
    kept = set(made.lineage.parents.tolist())
    assert made.lineage.data == real.digest == result["set_digest"]
    for c in range(10):
        mine = np.flatnonzero(real.labels == c)
        hard = mine[np.argsort(scores[mine], kind="stable")][: int(np.ceil(0.3 * len(mine) - 1e-9))]
        assert kept & set(mine.tolist()) == set(hard.tolist())
    given["work"] = tmp_path / "no"
    other = cli(children, **given, more="--config.data.base_seed=1")
    assert_refused(other, "are of images with digest", "Score these images")
    assert_refused(cli(children, **given, more="--config.from_real=false"), "hard.scores", "from_real=True")
    assert_refused(cli(children, **given, more="--config.hard.part=0.0"), "config.hard.part")


def test_scores_by_who_may_have_seen_the_test_images_are_refused(cli, train_mixed, quick_study, tmp_path):
    """The judge learnt from a folder that holds test images of the digits for training."""
    made = shutil.copytree(quick_study.made, tmp_path / "set")
    test = sources.digits("test")
    for i in range(200):
        part = "train" if i < 150 else "test"
        path = tmp_path / "digits" / part / test.class_names[test.labels[i]] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test.read(i)[..., 0]).save(path)
    data = "--config.data.source=folder --config.data.path={digits} --config.data.n_base=0"
    cheat = cli(f"train {RESNET} {data} --workdir={{work}}", digits=tmp_path / "digits", work=tmp_path / "cheat")
    assert cheat.code == 0, cheat.err
    line = "score --config=configs/score/classifier.py --config.checkpoint={judge} --config.set={made} --workdir={work}"
    assert cli(line, judge=tmp_path / "cheat", made=made, work=made / "scores" / "cheat").code == 0
    filtered = "--config.data.scores=cheat --config.data.drop_lowest=0.2"
    assert_refused(train_mixed(made, filtered), "other test images than these", "may have seen")


def test_scores_that_do_not_fit_the_set_are_refused(cli, train_mixed, quick_study, tmp_path):
    made = shutil.copytree(quick_study.made, tmp_path / "set")
    assert_refused(train_mixed(made, "--config.data.drop_lowest=0.2"), "drop_lowest 0.2", "jaxmoust score")
    assert_refused(train_mixed(made, "--config.data.scores=bogus"), "'bogus'", "jaxmoust score")
    other = made / "scores" / "other"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"task": "score"}')
    (other / "result.json").write_text('{"set_digest": "another"}')
    assert_refused(train_mixed(made, "--config.data.scores=other"), "another", "Score this set")
    line = "score --config=configs/score/classifier.py{arg} --config.checkpoint={a} --config.set={b} --workdir={c}"
    nothing = {"a": tmp_path / "none", "b": made, "c": tmp_path / "scores"}
    assert_refused(cli(line, arg="", **nothing), "holds no finished 'classify' run")
    assert_refused(cli(line, arg=":bogus", **nothing), "config.score is 'bogus'", "confidence")
