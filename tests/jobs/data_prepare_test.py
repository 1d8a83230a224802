"""Laws of jobs/data_prepare.py: what cannot be prepared is said in a sentence, with the extra that it needs."""

import pytest
from command_line import assert_refused


@pytest.mark.parametrize("source", ["tfds:no_such_set", "no_such_set", "digits"])
def test_prepare_refuses_what_the_catalogue_has_not(cli, tmp_path, source):
    outcome = cli("data prepare --source={source} --path={path}", source=source, path=tmp_path / "sets")
    assert_refused(outcome, source.removeprefix("tfds:"), "TFDS's catalogue", "jaxmoust[tfds]")
    assert outcome.err.count("\n") == 1 and not list(tmp_path.iterdir())
