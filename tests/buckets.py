"""Buckets for tests: one in this process's memory, and S3 as moto serves it on loopback, where that is installed."""

import contextlib
import importlib.util
import uuid
from collections.abc import Iterator

import fsspec
import pytest

from jaxmoust.runtime import bucket

KINDS = [
    "memory",
    pytest.param("s3", marks=pytest.mark.skipif(not importlib.util.find_spec("moto"), reason="moto is not installed")),
]


@contextlib.contextmanager
def serving(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new bucket while a block lasts: its address."""
    name = f"b{uuid.uuid4().hex[:12]}"
    if kind == "memory":
        monkeypatch.setitem(bucket.SCHEMES, "memory", "none")
        fsspec.filesystem("memory").mkdir(f"/{name}")
        yield f"memory://{name}"
        return
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for variable, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(variable, value)
    try:
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
        yield f"s3://{name}"
    finally:
        server.stop()
        fsspec.filesystem("s3").clear_instance_cache()
