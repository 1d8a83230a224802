"""Laws of the verb `features`: what its result is known by, what it promises and refuses; probe_test.py runs it."""

import pytest
from tiny_backbone import write_backbone

from jaxmoust.jobs.features import Features
from jaxmoust.jobs.parts.configure import as_config
from jaxmoust.runtime.folder import identity


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return write_backbone(tmp_path_factory.mktemp("features") / "backbone")


def job_of(backbone, **fields):
    data = {"source": "digits", "image_px": 8, **fields.pop("data", {})}
    return Features(as_config(f"configs/features.py:{backbone}", {"data": data, "augment": {"crop_px": 1}, **fields}))


def name_of(job):
    return identity(job.config, job.contents(), job.places)


def test_features_are_known_by_their_images_and_not_by_how_these_are_named(backbone, tmp_path):
    test = name_of(job_of(backbone, part="test"))
    assert name_of(job_of(backbone, part="test", data={"n_base": 50, "copies": 2})) == test
    assert name_of(job_of(backbone, data={"copies": 2})) == name_of(job_of(backbone))
    others = (job_of(backbone), job_of(backbone, data={"n_base": 50}), job_of(backbone, part="test", views=2))
    others += (
        job_of(backbone, part="test", data={"test_crop": 0.5}),
        job_of(backbone, part="test", model={"image_px": 12}),
        job_of(write_backbone(tmp_path / "b", 32), part="test"),
    )
    assert name_of(job_of(backbone, part="test", data={"image_px": 12})) == test  # a backbone has a size of its own
    names = [test, *map(name_of, others)]
    assert all(a != b for i, a in enumerate(names) for b in names[:i])


def test_features_promise_what_a_probe_asks_of_them(backbone):
    job = job_of(backbone, data={"n_base": 50})
    job.check()
    said = job.promise()
    assert (said["num_images"], said["num_views"], said["num_features"]) == (50, 5, 16)
    assert (said["image_shape"], said["preprocessing"]["image_px"]) == ((8, 8, 3), 8)
    assert said["weights"] and said["images_digest"] == job.real.distinct.digest


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"views": 0}, r"config\.views 0: expected"),
        ({"data": {"n_base": 5}}, "n_base=5, expected 10"),
        ({"set": "no/such/set"}, "no/such/set"),
        ({"model": {"weights": ""}}, r"model\.weights is empty"),
    ],
)
def test_features_refuse(backbone, fields, said):
    with pytest.raises(ValueError, match=said):
        job_of(backbone, **fields).check()
