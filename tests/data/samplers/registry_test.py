"""What a configuration can name: complete signatures, and a line on every field."""

import inspect
import re

import pytest

from jaxmoust.data.real import real_data
from jaxmoust.data.samplers.registry import SAMPLERS

FACTORIES = {**SAMPLERS, "real data": real_data}


@pytest.mark.parametrize("name", FACTORIES)
def test_what_a_configuration_can_name_says_the_type_and_the_meaning_of_every_field(name):
    parameters = inspect.signature(FACTORIES[name]).parameters.values()
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters)
    described = re.findall(r"(?m)^ {4,8}(\w+): ", inspect.getdoc(FACTORIES[name]).partition("Args:")[2])
    assert described == [parameter.name for parameter in parameters]


@pytest.mark.parametrize("name", FACTORIES)
def test_defaults_of_what_a_configuration_can_name_are_plain_values(name):
    for parameter in inspect.signature(FACTORIES[name]).parameters.values():
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.default is None or type(parameter.default) in (bool, int, float, str)
