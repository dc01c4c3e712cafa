"""The `vllm_local` engine: vLLM in the trainer's process, on the trainer's device.

load_weights: [wake the weights] -> start, update, finish -> [wake the cache] -> forget cached prefixes
generate:     add all groups -> step until none is unfinished -> group by group
rest:         sleep, where there is a GPU to free
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from rlvr.errors import EngineError
from rlvr.keeper import Keeper
from rlvr.rollout import drawn
from rlvr.rollout.engine import Decode, Tell, log
from rlvr.rollout.patience import patience
from rlvr.rollout.vllm_settings import (
    ADAPTER,
    VllmSettings,
    engine_arguments,
    quiet_environment,
    write_config,
)
from rlvr.rollout.weights import checksums, has_adapter, named_weights
from rlvr.types import Group, Request, Sampling


class VllmLocal:
    """One vLLM engine core, run by the caller's thread."""

    name = "vllm_local"

    def __init__(
        self, model: Any, decode: Decode, settings: VllmSettings, *, version: int = 0, tell: Tell = log
    ) -> None:
        """Start it with `model`'s weights as `version`; EngineError says what hinders."""
        if settings.tensor_parallel > 1:
            raise EngineError("vllm.tensor_parallel > 1 needs sampling.engine: vllm_server")
        self._decode, self._settings, self._tell = decode, settings, tell
        self._run = uuid4().hex[:8]
        self._vocabulary = int(model.config.get_text_config().vocab_size)
        self._keeper = Keeper("rlvr-vllm-")
        self._llm: Any = None
        self._failures = 0
        self._serial = 0
        self._asleep = self._has_base = self._has_adapter = False
        self._is_whole = True
        try:
            self._start(model)
            self.load_weights(model, version)
        except BaseException:
            self.close()
            raise

    def load_weights(self, model: Any, version: int) -> None:
        """Hand `model`'s weights over in memory; see `rollout/engine.py`."""
        self._model, self._version = model, version
        if not self._is_whole:  # its layers may hold half of what failed to load
            self._stop()
            self._start(model)
        self._is_whole = False
        # Until the last word the engine's weights are nobody's, and what it samples is refused.
        self._llm.update_weight_version("half loaded")
        try:
            with patience("handing weights over", self._settings.deadline_s, self._tell) as watched, watched:
                self._hand_over()
        except Exception as error:  # vLLM raises what it likes
            cause = f"{type(error).__name__}: {error}"
            raise EngineError(f"vllm_local did not take the weights of version {version}: {cause}") from error
        self._llm.update_weight_version(drawn.label(self._run, version))
        self._is_whole = True

    def rest(self) -> None:
        """Give the GPU's memory to the trainer; weights that are not its own stay in the host's memory."""
        if self._settings.on_gpu and self._settings.sleep and not self._asleep:
            self._llm.sleep(level=1 if self._has_adapter else 2)
            self._asleep = True

    def close(self) -> None:
        """Shut vLLM down and remove its folder; safe to call twice."""
        self._stop()
        self._keeper.close()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Group]]:
        """Yield (index, group) as groups finish; a broken engine is started anew and goes on."""
        left = dict(enumerate(requests))
        while left:
            try:
                for index, group in self._drawn(left, sampling):
                    del left[index]
                    yield index, group
            except Exception as error:  # noqa: BLE001 - whatever broke it, it is started anew
                self._recover(error, len(left))

    def _drawn(self, left: dict[int, Request], sampling: Sampling) -> Iterator[tuple[int, Group]]:
        """One attempt at the requests left."""
        engine = self._llm.llm_engine
        waiting: dict[str, int] = {}
        try:
            for index, request in left.items():
                waiting[self._ask(request, sampling)] = index
            with patience("sampling", self._settings.deadline_s, self._tell) as watched:
                while waiting:
                    with watched:
                        outputs = engine.step()
                    for output in outputs:
                        if output.finished:
                            index = waiting.pop(output.request_id)
                            yield index, self._group(left[index], sampling, output)
        finally:
            with contextlib.suppress(Exception):  # it may be what is broken
                engine.abort_request(list(waiting))

    def _ask(self, request: Request, sampling: Sampling) -> str:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._serial += 1
        name = str(self._serial)
        options = drawn.parameters(request, sampling, self._settings.context)
        try:
            self._llm.llm_engine.add_request(
                name,
                {"prompt_token_ids": list(request.prompt_ids)},
                SamplingParams(**options, flat_logprobs=True, output_kind=RequestOutputKind.FINAL_ONLY),
                lora_request=self._adapter() if self._has_adapter else None,
            )
        except Exception as error:
            raise EngineError(f"vLLM refuses problem {request.problem.id}: {_last_line(error)}") from error
        return name

    def _group(self, request: Request, sampling: Sampling, output: Any) -> Group:
        rows = [
            drawn.Row(
                token_ids=one.token_ids,
                logprobs=one.logprobs.logprobs,
                finish=one.finish_reason,
                labels=[span.version for span in one.weight_versions or ()],
            )
            for one in sorted(output.outputs, key=lambda one: one.index)
        ]
        return drawn.group(request, sampling, rows, self._decode, run=self._run, vocabulary=self._vocabulary)

    def _recover(self, error: Exception, groups: int) -> None:
        """Start anew with the same weights, or give up."""
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        if isinstance(error, EngineError):
            raise error
        self._failures += 1
        if self._failures > self._settings.failures:
            raise EngineError(
                f"vllm_local failed {self._failures} times, the last time with {cause}; vllm.failures = "
                f"{self._settings.failures}"
            ) from error
        self._tell(
            f"vllm_local failed ({cause}); started anew, {self._failures} of {self._settings.failures}, and "
            f"{groups} groups asked again",
            lasting=True,
        )
        self._is_whole = False
        self.load_weights(self._model, self._version)

    def _hand_over(self) -> None:
        if self._asleep:
            torch.cuda.empty_cache()
            self._llm.wake_up(tags=["weights"])
        if not self._has_base:
            weights = list(named_weights(self._model))
            self._llm.collective_rpc("rlvr_drop_update")
            self._llm.start_weight_update()
            parcel = {"checksums": checksums(weights), "tensors": weights}
            self._llm.update_weights({"update_info": parcel})
            self._llm.finish_weight_update()
            self._has_base = self._has_adapter
        if self._asleep:
            self._llm.wake_up(tags=["kv_cache"])
            self._asleep = False
        if self._has_adapter:
            self._model.save_pretrained(self._adapter_folder)
            self._llm.llm_engine.add_lora(self._adapter(in_place=True))
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("the cached prefixes of the old weights could not be forgotten")

    def _adapter(self, in_place: bool = False) -> Any:
        from vllm.lora.request import LoRARequest

        return LoRARequest(ADAPTER, 1, self._adapter_folder, load_inplace=in_place)

    def _start(self, model: Any) -> None:
        folder = tempfile.mkdtemp(dir=self._keeper.folder)
        self._adapter_folder = os.path.join(folder, "adapter")
        self._has_adapter, self._has_base = has_adapter(model), False
        write_config(model, folder)
        arguments = engine_arguments(self._settings, folder, model.config)
        if self._settings.on_gpu and self._settings.sleep:
            arguments["enable_sleep_mode"] = True
        with _as_it_was(quiet_environment(folder, threads=None)):
            logging.getLogger("vllm").addHandler(logging.NullHandler())
            try:
                from vllm import LLM
                from vllm.platforms import current_platform

                if not self._settings.on_gpu:  # one small helper would be compiled, for seconds
                    current_platform.simple_compile_backend = "eager"
                self._llm = LLM(**arguments, disable_log_stats=True, use_tqdm_on_load=False)
                self._llm.init_weight_transfer_engine({"init_info": {}})
            except (ImportError, OSError) as error:
                raise EngineError(
                    f"sampling.engine = vllm_local: vLLM does not import ({error}); `rlvr doctor` says why "
                    "and how to mend it, or use sampling.engine: hf"
                ) from error
            except (RuntimeError, ValueError, TypeError, torch.OutOfMemoryError) as error:
                raise EngineError(f"vLLM does not start: {_last_line(error)}") from error

    def _stop(self) -> None:
        llm, self._llm = self._llm, None
        if llm is not None:
            with contextlib.suppress(Exception):  # it may be what is broken
                llm.llm_engine.engine_core.shutdown()


@contextlib.contextmanager
def _as_it_was(variables: dict[str, str]) -> Iterator[None]:
    """Start vLLM with `variables`, then put back what it changes in this process.

    That is the environment, which children would inherit, random numbers, warnings, and on a CPU a function
    of torch that it disables.
    """
    set_num_threads = torch.set_num_threads
    environment, temporary = dict(os.environ), tempfile.tempdir
    numbers = random.getstate(), np.random.get_state()
    os.environ.update(variables | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"})
    tempfile.tempdir = variables["TMPDIR"]
    try:
        with (
            torch.random.fork_rng(),
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = temporary
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])
        torch.set_num_threads = set_num_threads


def _last_line(error: BaseException) -> str:
    """What an error of vLLM comes down to: pydantic, under it, adds its input and an address to visit."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("For further information")]
    return said[-1].partition(" [type=")[0].removeprefix("Value error, ") if said else type(error).__name__
