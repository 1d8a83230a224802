"""Laws of jobs/import_generator.py: a public network is a generator, and what it was made for is asked."""

import json

import numpy as np
import public_dits
import pytest
from command_line import assert_refused
from public_dits import save_folder
from public_unets import OF_PICKLE, save_diffusers, tensors_of

from jaxmoust.data.synthetic.store import open_synthetic


def test_imported_network_is_a_generator_that_sample_draws_from(cli, tmp_path_factory, tmp_path):
    given = {"net": save_diffusers(tmp_path_factory.mktemp("ddpm"), tensors_of("ddpm")), "work": tmp_path / "public"}
    line = "import --config=configs/import.py{arg} --config.path={net} --workdir={work}"
    refused = cli(line, arg=":cat,dog", **given)
    assert refused.code == 2 and "classes" in refused.err and not list(tmp_path.iterdir())
    assert cli(line, arg=":digit", **given).code == 0
    line = (
        "sample --config=configs/sample/ddim.py:quick --config.num_images=4 --config.generator={work} --workdir={set}"
    )
    assert cli(line, work=given["work"], set=tmp_path / "set").code == 0
    made = open_synthetic(tmp_path / "set")
    assert len(made) == 4 and made.class_names == ("digit",) and made.shape == (16, 16, 3)
    spec = json.loads((tmp_path / "set" / "provenance.json").read_text())
    assert spec["generator"] == json.loads((tmp_path / "public" / "result.json").read_text())["generator"]


def test_imported_dit_decodes_by_the_vae_that_is_named(cli, tmp_path):
    folder = save_folder(tmp_path / "dit", public_dits.tensors())
    line = "import --config=configs/import.py --config.path={net} --workdir={work} "
    given = {"net": folder, "work": tmp_path / "public"}
    assert_refused(cli(line, **given), "latents of 4 channels", "no VAE", "config.vae")
    assert_refused(cli(line + "--config.vae=tiny_sd --config.precondition=vp", **given), "EDM's files")
    assert cli(line + "--config.vae=tiny_sd", **given).code == 0
    result = json.loads((tmp_path / "public" / "result.json").read_text())
    assert result["image_shape"] == [32, 32, 3] and result["class_names"] == list("01234")
    line = (
        "sample --config=configs/sample/ddim.py:quick --config.num_images=5 --config.generator={work} --workdir={set}"
    )
    words = " --config.sample.num_steps=2 --config.sample.clip=False --config.sample.guidance=1.5"
    assert cli(line + words, work=given["work"], set=tmp_path / "set").code == 0
    made = open_synthetic(tmp_path / "set")
    assert len(made) == 5 and made.shape == (32, 32, 3) and np.std(made.read(0)) > 1


def test_import_of_edms_state_dict_asks_how_it_was_preconditioned(cli, tmp_path):
    np.savez(tmp_path / "net.npz", **tensors_of("ddpmpp"))
    line = "import --config=configs/import.py --config.path={net} --workdir={work} "
    given = {"net": tmp_path / "net.npz", "work": tmp_path / "work"}
    assert_refused(cli(line, **given), "--config.precondition=edm, vp, ve or iddpm", "--config.sigma_data=0.5")
    assert_refused(cli(line + "--config.precondition=vp --config.sigma_data=0.5", **given), "'vp'", "would be wrong")
    assert_refused(cli(line + "--config.precondition=vpp", **given), "Did you mean 'vp'?")
    np.savez(tmp_path / "kept.npz", **tensors_of("ddpmpp"), **OF_PICKLE)
    kept = {**given, "net": tmp_path / "kept.npz"}
    assert_refused(cli(line + "--config.sigma_data=0.25", **kept), "sigma_data 0.5; config.sigma_data is 0.25")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("said", [True, False])
def test_import_keeps_the_sigma_data_that_is_said(cli, tmp_path, said):
    sigma_data = np.array(0.25)
    np.savez(tmp_path / "net.npz", **tensors_of("ddpmpp"), **({} if said else {**OF_PICKLE, "sigma_data": sigma_data}))
    words = "--config.precondition=edm --config.sigma_data=0.25" if said else ""
    line = "import --config=configs/import.py --config.path={net} --workdir={work} " + words
    assert cli(line, net=tmp_path / "net.npz", work=tmp_path / "work").code == 0
    result = json.loads((tmp_path / "work" / "result.json").read_text())
    assert result["sections"]["method"]["sigma_data"] == 0.25
