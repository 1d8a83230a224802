"""Laws of jobs/config.py: what is printed runs and says the same."""

import pytest
from command_line import assert_refused


def test_config_prints_a_file_that_runs_and_says_the_same(cli, tmp_path):
    line = "config --config={config} --config.seed=3"
    printed = cli(line, config="configs/classifier/digits_resnet.py:quick")
    assert printed.code == 0 and "'seed': 3,  # " in printed.out
    (tmp_path / "mine.py").write_text(printed.out)
    again = cli("config --config={config}", config=tmp_path / "mine.py")
    assert again.out.partition("def get_config")[2] == printed.out.partition("def get_config")[2]
    assert_refused(
        cli("config --config={config} --config.seeds=3", config=tmp_path / "mine.py"), "Did you mean 'seed'?"
    )
    assert_refused(cli("config"), "--config is missing")


@pytest.mark.parametrize("config", ["experiments/quickstart.py:quick", "experiments/filters.py"])
def test_config_prints_an_experiment_that_runs_and_says_the_same(cli, tmp_path, config):
    printed = cli("config --config={config}", config=config)
    assert printed.code == 0
    (tmp_path / "mine.py").write_text(printed.out)
    again = cli("config --config={config}", config=tmp_path / "mine.py")
    assert again.out.partition("def get_config")[2] == printed.out.partition("def get_config")[2]
