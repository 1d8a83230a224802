"""Trainings by the command line that several tests of verbs start with."""

from pathlib import Path

import pytest
from command_line import RESNET, contents

from jaxmoust.cli import call


@pytest.fixture(scope="session")
def trained(tmp_path_factory, request):
    """A quick classifier of digits, for tests that read it and leave it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        work = tmp_path_factory.mktemp("trained") / "run"
        assert call(["train", RESNET, f"--workdir={work}", "--config.eval.keep=probabilities"]) == 0
    return work


@pytest.fixture
def train_on_folder(cli, tmp_path):
    """Trains on tmp_path/images; returns the outcome, having checked that a refusal wrote nothing."""

    def run(overrides: str = "", config: str = RESNET):
        before = contents(tmp_path)
        line = f"train {config} --config.data.source=folder --config.data.path={{path}} --config.data.n_base=0 "
        outcome = cli(line + overrides + " --workdir={work}", path=tmp_path / "images", work=tmp_path / "work")
        if outcome.code:
            assert contents(tmp_path) == before
        return outcome

    return run


@pytest.fixture
def train_mixed(cli, tmp_path):
    """Trains on half digits and half a synthetic set; checks that a refusal wrote nothing."""

    def run(made: Path, overrides: str = "", name: str = "edm"):
        before = contents(tmp_path)
        config = f"configs/classifier/digits_resnet.py:quick,synthetic={made},share=0.5,name={name}"
        outcome = cli(f"train --config={config} {overrides} --workdir={{work}}", work=tmp_path / "work")
        if outcome.code:
            assert contents(tmp_path) == before
        return outcome

    return run
