from importlib.util import find_spec

import pytest

from searchrl.errors import ConfigError, ModelError
from searchrl.models.vllm_lm import VllmLM


def test_impossible_sizes_are_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="int8"):
        VllmLM("smollm2-135m", dtype="int8")
    for setting in ("tensor_parallel_size", "pipeline_parallel_size"):
        with pytest.raises(ConfigError, match=f"{setting} is 0"):
            VllmLM("smollm2-135m", **{setting: 0})


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_way_out_is_named():
    with pytest.raises(ModelError, match=r"searchrl\[vllm\].*--engine http.*--engine transformers"):
        VllmLM("smollm2-135m", tensor_parallel_size=2)
