"""Names, positions and defaults of arguments are those of mamba_ssm and causal_conv1d."""

import inspect
import math

import pytest

import supa_mamba

REQUIRED = inspect.Parameter.empty
STATE_SPACE = dict.fromkeys(("A", "B", "C"), REQUIRED)

# Our function, the arguments of the public one, and those that are not supported or have another name here.
THEIRS = {
    "selective_scan": (
        {"u": REQUIRED, "delta": REQUIRED, **STATE_SPACE, "D": None, "z": None, "delta_bias": None}
        | {"delta_softplus": False, "return_last_state": False},
        {"return_last_state": "return_final_states"},
    ),
    "ssd": (
        {"x": REQUIRED, "dt": REQUIRED, **STATE_SPACE, "chunk_size": REQUIRED, "D": None, "z": None, "dt_bias": None}
        | {"initial_states": None, "seq_idx": None, "cu_seqlens": None, "dt_softplus": False}
        | {"dt_limit": (0.0, math.inf), "return_final_states": False, "return_varlen_states": False},
        {"chunk_size": None, "z": None, "seq_idx": "offset", "cu_seqlens": "offset", "return_varlen_states": None},
    ),
    "causal_conv1d": (
        {"x": REQUIRED, "weight": REQUIRED, "bias": None, "seq_idx": None, "initial_states": None}
        | {"return_final_states": False, "final_states_out": None, "activation": None},
        {"seq_idx": "offset", "final_states_out": None},
    ),
    "selective_state_update": (
        {"state": REQUIRED, "x": REQUIRED, "dt": REQUIRED, **STATE_SPACE, "D": None, "z": None, "dt_bias": None}
        | {"dt_softplus": False, "state_batch_indices": None},
        {},
    ),
    "causal_conv1d_update": (
        {"x": REQUIRED, "conv_state": REQUIRED, "weight": REQUIRED, "bias": None, "activation": None}
        | {"cache_seqlens": None, "conv_state_indices": None},
        {},
    ),
    "Mamba": (
        {"d_model": REQUIRED, "d_state": 16, "d_conv": 4, "expand": 2, "dt_rank": "auto", "dt_min": 0.001}
        | {"dt_max": 0.1, "dt_init": "random", "dt_scale": 1.0, "dt_init_floor": 1e-4, "conv_bias": True, "bias": False}
        | {"use_fast_path": True, "layer_idx": None, "device": None, "dtype": None},
        {"dt_init": None, "dt_scale": None, "use_fast_path": None, "layer_idx": None},
    ),
    "Mamba2": (
        {"d_model": REQUIRED, "d_state": 128, "d_conv": 4, "conv_init": None, "expand": 2, "headdim": 64, "d_ssm": None}
        | {"ngroups": 1, "A_init_range": (1, 16), "D_has_hdim": False, "rmsnorm": True, "norm_before_gate": False}
        | {"dt_min": 0.001, "dt_max": 0.1, "dt_init_floor": 1e-4, "dt_limit": (0.0, math.inf), "bias": False}
        | {"conv_bias": True, "chunk_size": 256, "use_mem_eff_path": True, "layer_idx": None, "process_group": None}
        | {"sequence_parallel": True, "device": None, "dtype": None},
        {"conv_init": None, "d_ssm": None, "D_has_hdim": None, "chunk_size": None}
        | {"use_mem_eff_path": None, "layer_idx": None, "process_group": None, "sequence_parallel": None},
    ),
}
OURS_ALONE = {
    "offset", "reverse", "initial_states", "return_final_states", "rmsnorm_eps", "activation", "ngroups", "b_c_dt_norm",
}  # fmt: skip


@pytest.mark.parametrize("name", THEIRS)
def test_arguments_have_the_public_names_positions_and_defaults(name):
    theirs, differ = THEIRS[name]
    ours = inspect.signature(getattr(supa_mamba, name)).parameters
    positional = [key for key, x in ours.items() if x.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional == list(theirs)[: len(positional)]
    assert {key for key in theirs if key not in ours} == set(differ)
    assert {key for key in ours if key not in theirs} <= OURS_ALONE
    assert {key for key in differ.values() if key} <= set(ours)
    assert all(ours[key].default == default for key, default in theirs.items() if key in ours)


def test_replays_have_the_arguments_of_the_updates():
    for replay, update in (
        (supa_mamba.selective_state_replay, supa_mamba.selective_state_update),
        (supa_mamba.causal_conv1d_replay, supa_mamba.causal_conv1d_update),
    ):
        ours, theirs = inspect.signature(replay).parameters, inspect.signature(update).parameters
        assert set(ours) - set(theirs) == {"cache", "accepted"}
        assert set(theirs) - set(ours) <= {"cache_seqlens"}
        assert all(ours[key].default == x.default for key, x in theirs.items() if key in ours)
