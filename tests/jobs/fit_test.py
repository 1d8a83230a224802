"""Laws of jobs/fit.py: a finished generator is found, and a folder of another one refused."""

import json

from command_line import EDM, assert_refused, contents


def test_workdir_of_another_config_is_refused_with_the_difference(cli, quick_study):
    work = quick_study.generator
    before = contents(work)
    outcome = cli("fit --config=configs/generator/digits_ddpm.py:quick --config.seed=7 --workdir={work}", work=work)
    assert_refused(outcome, str(work), "seed: folder has 0, given 7", 'method.name: folder has "edm", given "ddpm"')
    assert contents(work) == before


def test_train_finished_is_not_trained_again(cli, quick_study):
    """The same command gives the stored result at once; not even the time of a file changes."""
    work = quick_study.generator
    config = json.loads((work / "config.json").read_text())
    times = {p: p.stat().st_mtime_ns for p in work.rglob("*")}
    line = f"fit {EDM} --config.data.digest={config['data']['digest']} --workdir={{work}}"
    outcome = cli(line, work=work)
    assert outcome.code == 0
    assert json.loads((work / "result.json").read_text())["generator"] in outcome.out
    assert outcome.err == ""
    assert {p: p.stat().st_mtime_ns for p in work.rglob("*")} == times
