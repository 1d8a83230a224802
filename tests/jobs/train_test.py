"""A classifier that begins as another run of ours: where it starts, and that what the other saw counts as seen."""

import json

import numpy as np
import pytest

from jaxmoust.core.tree import named_leaves
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.jobs.parts.job import do
from jaxmoust.jobs.parts.registry import BadInput
from jaxmoust.runtime.checkpoint import restore_tree


@pytest.fixture(scope="module")
def first(quick_study):
    """The quick study's run of the EDM's images alone: (its folder, its configuration)."""
    for folder in sorted(quick_study.store.glob("train-*")):
        config = json.loads((folder / "config.json").read_text())
        if config["sampler"].get("shares", {}).get("edm") == 1.0:
            return folder, config
    raise AssertionError("the quick study has no arm of synthetic images alone")


def start_from(folder, config, n_base=100, **method):
    """A run on real images that begins as the one of a folder, and learns nothing."""
    changes = {
        "data": {"synthetic": (), "n_base": n_base},
        "sampler": {"name": "random"},
        "method": {"pretrained": str(folder), **method},
        "optim": {"learning_rate": 1e-9, "weight_decay": 0.0},
    }
    return as_config(config, changes)


@pytest.fixture(scope="module")
def second(first, tmp_path_factory):
    work = tmp_path_factory.mktemp("second") / "run"
    return work, do(start_from(*first), work).result


def test_run_begins_where_another_ended(first, second):
    before, after = (restore_tree(folder / "checkpoints")[0] for folder in (first[0], second[0]))
    assert before["step"] == after["step"] == 10
    for name, leaf in named_leaves(before["params"]).items():
        # 10 steps of at most 1e-9 each.
        np.testing.assert_allclose(named_leaves(after["params"])[name], leaf, atol=2e-8)


def test_what_the_first_run_saw_counts_as_seen(first, second, quick_study, tmp_path):
    made = first[1]["data"]["synthetic"][0]
    assert second[1]["n_synthetic"] == 0 and len(second[1]["synthetic_digests"]) == 1
    fields = {"checkpoint": str(second[0]), "set": str(quick_study.store / made)}
    config = as_config("configs/score/classifier.py", fields)
    with pytest.raises(BadInput, match="was itself trained on images of"):
        do(config, tmp_path / "score")


def test_part_of_a_set_that_the_first_run_saw_counts_as_seen(tmp_path):
    """The first run took 20 of its 40 images; the second one's configuration does not say so."""
    spec = synthetic.SyntheticSpec("noise", tuple("0123456789"), (8, 8, 1), 40, 40, 0, "planted")
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    synthetic.write_shard(tmp_path / "set", spec, 0, images)
    synthetic.finish(tmp_path / "set", spec)
    data = {"n_base": 20, "synthetic": (str(tmp_path / "set"),), "n_synthetic": 20}
    config = as_config("configs/classifier/digits_resnet.py:quick", {"data": data})
    do(config, tmp_path / "first")
    unaware = as_config(config, {"data": {"n_synthetic": 0}})
    do(start_from(tmp_path / "first", unaware, n_base=20), tmp_path / "second")
    fields = {"checkpoint": str(tmp_path / "second"), "set": str(tmp_path / "set")}
    with pytest.raises(BadInput, match="was itself trained on images of"):
        do(as_config("configs/score/classifier.py", fields), tmp_path / "score")


def test_another_network_is_refused_with_its_leaves(first, tmp_path):
    folder, config = first
    wider = as_config(start_from(folder, config), {"model": {"width": 6}})
    with pytest.raises(BadInput, match=r"another network.*\n.*conv0/kernel is \(3, 3, 4, 4\), wanted \(3, 3, 6, 6\)"):
        do(wider, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ('arms[-1]["model"] = {"width": 24}', "allowed is one of the same network"),
        ('config["domains"] = {"gap": {**GAP, "arm": "outside"}}', "allowed is one that knows real images alone"),
        ('config["domains"] = {"gap": {**GAP, "arm": "real"}}', "allowed is one that knows real images alone"),
    ],
)
def test_study_that_would_be_refused_at_a_later_stage_is_refused_before_the_first(cli, tmp_path, changed, said):
    """The arms of the experiment begin as one that trains on synthetic images."""
    config = tmp_path / "experiment.py"
    config.write_text(EXPERIMENT.replace("CHANGED", changed))
    outcome = cli(
        "study --config={config} --workdir={work} --store={store}",
        config=config,
        work=tmp_path / "w",
        store=tmp_path / "s",
    )
    assert outcome.code == 2 and said in outcome.err
    assert not (tmp_path / "w").exists() and not (tmp_path / "s").exists()


EXPERIMENT = """
from jaxmoust.config import read_config

GAP = {"set": "edm", "config": "configs/domain/digits.py:quick"}


def get_config(arg=""):
    config = read_config("experiments/pretrained_vit.py:quick")
    arms = config["arms"]
    CHANGED
    return config
"""
