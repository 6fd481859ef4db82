"""Names that configs and scripts of before say still lead to what took their place."""

import subprocess
import sys

import pytest

from medsr.former_names import FORMER


@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_is_the_present_module(former: str):
    code = (
        f"import importlib, sys; old = importlib.import_module({former!r}); "
        f"assert old is importlib.import_module({FORMER[former]!r}); assert sys.modules[{former!r}] is old"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_in_configs_of_before():
    from medsr.bundles import trained_network
    from medsr.data.collection import collect, segmentation_items, with_scales
    from medsr.data.items import inference_items
    from medsr.data.readers import VolumeReader

    assert all(map(callable, (trained_network, collect, segmentation_items, with_scales, inference_items)))
    assert VolumeReader.__module__ == "medsr.data.readers"


def test_arguments_in_configs_of_before():
    from medsr.transforms import RandPatchd, RestoreIntensityd

    assert RandPatchd(key="hr image", size=8).hr == "hr image"
    assert RestoreIntensityd(keys="pred", source="lr image").reference == "lr image"
    with pytest.raises(TypeError, match="reference was given twice, also by its former name source; give it once"):
        RestoreIntensityd(keys="pred", source="a", reference="b")
    with pytest.raises(TypeError):
        RestoreIntensityd(keys="pred", origin="a")


def test_a_name_that_never_was_is_none():
    with pytest.raises(ModuleNotFoundError):
        __import__("medsr.data.no_such_thing")


def test_import_costs_no_torch():
    code = (
        "import medsr, sys; medsr.networks.__all__; assert 'torch' not in sys.modules; "
        "medsr.networks.EDSR; assert 'torch' in sys.modules; assert 'medsr.networks.rdn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
