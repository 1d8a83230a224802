"""A generator on latents from its fit to its set: encoded once, decoded when sampled, and what is refused of it."""

import json

import numpy as np
from command_line import assert_refused, contents

from jaxmoust.data.synthetic.store import open_synthetic
from jaxmoust.train.latents import Latents

FILE = """
import ml_collections


def get_config(arg=""):
    return ml_collections.ConfigDict(dict(
        task="diffuse",
        data=dict(source="digits", n_base=20),
        latents=dict(path="tiny_sd", image_px=16),
        model=dict(name="dit", width=8, depth=1, num_heads=2),
        method=dict(name="flow"),
        augment=dict(flip=True),
        train=dict(batch_size=8, num_steps=2),
        eval=dict(batch_size=16),
    ))
"""


def test_generator_on_latents_is_fitted_sampled_and_guided_as_one_on_pixels_is(cli, quick_study, tmp_path, monkeypatch):
    (tmp_path / "dit.py").write_text(FILE)
    monkeypatch.setenv("JAXMOUST_CACHE", str(tmp_path / "cache"))
    fit = f"fit --config={tmp_path}/dit.py --workdir={tmp_path}/"
    assert cli(fit + "fit").code == 0
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "latents").iterdir()}
    # The base set and what it is evaluated on; mirrored, too; mean and deviation of 4 channels.
    assert sorted(np.load(path).shape for path in kept) == [(n, 2, 4, 4, 8) for n in (20, 20, 512)]
    with monkeypatch.context() as patch:
        patch.setattr(Latents, "encode", None)  # nothing is encoded again
        assert cli(fit + "short --config.train.num_steps=1").code == 0
        assert cli(fit + "again").code == 0
    assert cli(fit + f"elsewhere --config.train.num_steps=1 --config.latents.keep={tmp_path}/kept").code == 0
    assert len([*(tmp_path / "kept").iterdir()]) == 3
    assert cli(fit + "plain --config.latents.keep=").code == 0
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("fit", "again", "plain")]
    assert len({(one["generator"], one["loss_train"], one["loss_heldout"]) for one in results}) == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "latents").iterdir()} == kept
    found = json.loads((tmp_path / "fit" / "result.json").read_text())
    assert found["loss_train"] > 0 and found["image_shape"] == [8, 8, 1]

    def sample(name, words=""):
        line = f"sample --config=configs/sample/edm.py:quick --config.generator={tmp_path}/fit --config.num_images=10"
        return cli(f"{line} --config.sample.num_steps=2 {words} --workdir={tmp_path}/{name}")

    guided = "--config.sample.guidance=2 --config.autoguidance="
    assert sample("set", f"{guided}{tmp_path}/short").code == 0
    images = open_synthetic(tmp_path / "set")
    assert images.shape == (8, 8, 1) and np.std([images.read(i) for i in range(10)]) > 1
    before = contents(tmp_path)
    assert_refused(sample("no", "--config.sample.clip=True"), "sample.clip", "latents")
    assert_refused(sample("no", guided + str(quick_study.generator)), "another space (pixels)", "config.autoguidance")
    no = f"fit --config={tmp_path}/dit.py --workdir={tmp_path}/no --config."
    assert_refused(cli(f"{no}latents.path="), "latents.image_px 16 without latents.path")
    assert_refused(cli(f"{no}latents.path={tmp_path}/nowhere"), "nowhere", "no folder")
    assert_refused(cli(f"{no}latents.image_px=18"), "18 px", "multiples of 4")
    assert_refused(cli(f"{no}augment.rotate_deg=3"), "encoded once", "flip")
    assert_refused(cli(f"{no}data.random_crop=0.5"), "encoded once", "data.random_crop=0")
    assert_refused(cli(f"{no}model.patch_size=3"), "model.patch_size 3", "latents, of 4x4")
    assert_refused(cli(f"{no}model.depth=0"), "model.depth 0", "from 1")
    assert contents(tmp_path) == before
