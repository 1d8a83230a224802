"""Laws of jobs/config.py: what is printed runs and says the same."""

import re

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


def test_cost_is_told_without_data_and_refused_where_it_is_not_known(cli):
    line = "config --config=configs/generator/cifar10_edm.py:quick --cost --config.data.path=/absent"
    out = cli(line).out
    steps = int(re.search(r"([\d,]+) steps of", out)[1].replace(",", ""))
    gflop = float(re.search(r"([\d.]+) GFLOP in training", out)[1])
    hours = float(re.search(r"TPU v5e .* ([\d.]+)$", out, re.MULTILINE)[1])
    batch = int(re.search(r"steps of (\d+) images", out)[1])
    assert hours == pytest.approx(steps * batch * gflop * 1e9 / 197e12 / 3600, abs=0.006)
    assert_refused(cli("config --config=configs/sample/edm.py --cost"), "got a configuration of task 'sample'")
    assert_refused(cli("config --config=configs/classifier/digits_resnet.py --num_classes=3"), "goes with --cost")
    own_size = "config --config=configs/classifier/digits_resnet.py --cost --config.data.image_px=0"
    assert_refused(cli(own_size), "--config.data.image_px=32")
