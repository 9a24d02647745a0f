import dataclasses
import json
import math
import re

import pytest
import torch
from mixers import gated_mlp_by_formulas, mamba2_by_formulas, mamba_by_formulas, rotated_by_formulas
from sequences import distance
from torch.nn import functional

from supa_mamba import CausalAttention, HybridStack, Mamba, Mamba2, MambaStack, from_mamba_ssm

WIDTH, LAYERS, STATES, HEADDIM = 8, 2, 3, 4


@dataclasses.dataclass
class Config:
    """Fields and defaults of mamba_ssm's ``MambaConfig``, with smaller sizes."""

    d_model: int = WIDTH
    d_intermediate: int = 0
    n_layer: int = LAYERS
    vocab_size: int = 50
    ssm_cfg: dict = dataclasses.field(default_factory=dict)
    attn_layer_idx: list = dataclasses.field(default_factory=list)
    attn_cfg: dict = dataclasses.field(default_factory=dict)
    rms_norm: bool = True
    residual_in_fp32: bool = True
    fused_add_norm: bool = True
    pad_vocab_size_multiple: int = 8
    tie_embeddings: bool = True


SSM = {
    "mamba": {"layer": "Mamba1", "d_state": STATES},
    "mamba2": {"layer": "Mamba2", "d_state": STATES, "headdim": HEADDIM, "ngroups": 2, "chunk_size": 64},
}
HUGGING_FACE = {
    "mamba": {
        "model_type": "mamba", "hidden_size": WIDTH, "state_size": STATES, "num_hidden_layers": LAYERS, "expand": 2,
        "conv_kernel": 4, "intermediate_size": 2 * WIDTH, "time_step_rank": 1, "use_conv_bias": True, "use_bias": False,
        "layer_norm_epsilon": 1e-5, "hidden_act": "silu", "vocab_size": 50,
    },
    "mamba2": {
        "model_type": "mamba2", "hidden_size": WIDTH, "state_size": STATES, "num_hidden_layers": LAYERS, "expand": 2,
        "conv_kernel": 4, "num_heads": 4, "head_dim": HEADDIM, "n_groups": 2, "time_step_rank": 1, "chunk_size": 256,
        "time_step_limit": [0.0, {"__float__": "Infinity"}], "use_conv_bias": True, "use_bias": False,
        "layer_norm_epsilon": 1e-5, "hidden_act": "silu", "vocab_size": 50,
    },
}  # fmt: skip
LAYOUT = {
    "mamba": {
        "A_log": (16, 3), "D": (16,), "in_proj.weight": (32, 8), "conv1d.weight": (16, 1, 4), "conv1d.bias": (16,),
        "x_proj.weight": (7, 16), "dt_proj.weight": (16, 1), "dt_proj.bias": (16,), "out_proj.weight": (8, 16),
    },
    "mamba2": {
        "dt_bias": (4,), "A_log": (4,), "D": (4,), "in_proj.weight": (48, 8), "conv1d.weight": (28, 1, 4),
        "conv1d.bias": (28,), "norm.weight": (16,), "out_proj.weight": (8, 16),
    },
}  # fmt: skip
ATTENTION = {"in_proj.weight": (24, 8), "out_proj.weight": (8, 8)}
ATTENTION_CONFIG = {"causal": True, "num_heads": 2, "qkv_proj_bias": False, "out_proj_bias": False, "d_conv": 0}
kinds = pytest.mark.parametrize("kind", SSM)


def weights_of(kind, attention=(), embedding="embedding", hidden=0):
    """Draw the weights of a language model of mamba_ssm, with MLPs if they have hidden features."""
    torch.manual_seed(0)
    layout = {f"{embedding}.weight": (50, WIDTH), "norm_f.weight": (WIDTH,)}
    for number in range(LAYERS):
        mixer = ATTENTION if number in attention else LAYOUT[kind]
        layout |= {f"layers.{number}.mixer.{name}": shape for name, shape in mixer.items()}
        layout[f"layers.{number}.norm.weight"] = (WIDTH,)
        if hidden:
            layout |= {
                f"layers.{number}.norm2.weight": (WIDTH,),
                f"layers.{number}.mlp.fc1.weight": (2 * hidden, WIDTH),
                f"layers.{number}.mlp.fc2.weight": (WIDTH, hidden),
            }
    drawn = {f"backbone.{name}": 0.4 * torch.randn(shape, dtype=torch.float64) for name, shape in layout.items()}
    return drawn | {"lm_head.weight": drawn[f"backbone.{embedding}.weight"]}


def mixed_by_formulas(kind, weights, x, **options):
    y = (
        mamba2_by_formulas(weights, x, HEADDIM, STATES, **options)
        if kind == "mamba2"
        else mamba_by_formulas(weights, x)
    )
    return y @ weights["out_proj.weight"].T


def model_by_formulas(kind, weights, x, eps=1e-5, rotary=0, **options):
    def normed(x, weight):
        return x / torch.sqrt(x.square().mean(1, keepdim=True) + eps) * weight

    for number in range(LAYERS):
        layer = f"backbone.layers.{number}."
        mixer = {name.removeprefix(f"{layer}mixer."): v for name, v in weights.items() if name.startswith(layer)}
        mlp = {name.removeprefix(f"{layer}mlp."): v for name, v in weights.items() if name.startswith(f"{layer}mlp.")}
        given = normed(x, weights[f"{layer}norm.weight"])
        if "A_log" in mixer:
            x = x + mixed_by_formulas(kind, mixer, given, eps=eps, **options)
        else:
            q, k, v = (given @ mixer["in_proj.weight"].T).unflatten(1, (3, 2, 4)).permute(1, 2, 0, 3)
            for head in (*q, *k):
                for t, row in enumerate(head):
                    row.copy_(rotated_by_formulas(row.clone(), t, rotary))
            seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + seen.transpose(0, 1).flatten(1) @ mixer["out_proj.weight"].T
        if mlp:
            x = x + gated_mlp_by_formulas(mlp, normed(x, weights[f"{layer}norm2.weight"]))
    return normed(x, weights["backbone.norm_f.weight"])


def some_rows():
    return torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@kinds
@pytest.mark.parametrize("form", ["object", "dictionary", "silent", "transformers"])
def test_a_model_matches_its_formulas(kind, form):
    weights = weights_of(kind, embedding="embeddings" if form == "transformers" else "embedding")
    full = Config(ssm_cfg=SSM[kind])
    silent = {} if kind == "mamba" else {"ssm_cfg": {"layer": "Mamba2", "ngroups": 2}}
    config = {
        "object": full, "dictionary": dataclasses.asdict(full), "silent": silent, "transformers": HUGGING_FACE[kind]
    }[form]  # fmt: skip
    stack = from_mamba_ssm(config, weights)
    assert isinstance(stack, MambaStack)
    assert distance(stack(some_rows()[None])[0], model_by_formulas(kind, weights, some_rows())) < 1e-12
    assert (
        stack.layers[0].mixer.in_proj.weight.data_ptr() != weights["backbone.layers.0.mixer.in_proj.weight"].data_ptr()
    )


@pytest.mark.parametrize("options", [{"norm_before_gate": True}, {"dt_limit": (0.3, 0.8)}], ids=lambda x: str(*x))
def test_options_of_mamba2_are_adopted(options):
    weights = weights_of("mamba2")
    stack = from_mamba_ssm(Config(ssm_cfg=SSM["mamba2"] | options), weights)
    assert distance(stack(some_rows()[None])[0], model_by_formulas("mamba2", weights, some_rows(), **options)) < 1e-12


def test_epsilon_and_limits_of_transformers_are_adopted():
    weights, limits = weights_of("mamba2"), (0.3, 0.8)
    config = HUGGING_FACE["mamba2"] | {"layer_norm_epsilon": 0.1, "time_step_limit": limits, "norm_before_gate": True}
    y = model_by_formulas("mamba2", weights, some_rows(), eps=0.1, dt_limit=limits)
    assert distance(from_mamba_ssm(config, weights)(some_rows()[None])[0], y) < 1e-12


def test_a_hybrid_model():
    weights = weights_of("mamba2", attention=[1])
    config = Config(ssm_cfg=SSM["mamba2"], attn_layer_idx=[1], attn_cfg=ATTENTION_CONFIG)
    stack = from_mamba_ssm(config, weights)
    assert isinstance(stack, HybridStack)
    assert isinstance(stack.layers[1].mixer, CausalAttention)
    assert distance(stack(some_rows()[None])[0], model_by_formulas("mamba2", weights, some_rows())) < 1e-12


@pytest.mark.parametrize(("asked", "hidden"), [(3, 128), (6, 6), (None, 6)])
def test_a_hybrid_model_with_mlps_and_rotary_embeddings(asked, hidden):
    """mamba_ssm rounds the number of hidden features up to a multiple of 128."""
    weights = weights_of("mamba2", attention=[1], hidden=hidden)
    config = Config(
        ssm_cfg=SSM["mamba2"],
        attn_layer_idx=[1],
        attn_cfg=ATTENTION_CONFIG | {"rotary_emb_dim": 2, "rotary_emb_base": 10000.0},
        d_intermediate=asked,
    )
    expected = model_by_formulas("mamba2", weights, some_rows(), rotary=2)
    assert distance(from_mamba_ssm(config, weights)(some_rows()[None])[0], expected) < 1e-12


@kinds
def test_a_single_mixer(kind):
    start = "backbone.layers.0.mixer."
    weights = {name.removeprefix(start): v for name, v in weights_of(kind).items() if name.startswith(start)}
    options = {name: value for name, value in SSM[kind].items() if name != "layer"} | {"d_model": WIDTH}
    for config in (options, HUGGING_FACE[kind]):
        mixer = from_mamba_ssm(config, weights)
        assert type(mixer) is {"mamba": Mamba, "mamba2": Mamba2}[kind]
        assert distance(mixer(some_rows()[None])[0], mixed_by_formulas(kind, weights, some_rows())) < 1e-12


def test_dtype_and_device_default_to_those_of_the_weights():
    weights = {name: value.bfloat16() for name, value in weights_of("mamba2").items()}
    state = torch.random.get_rng_state()
    mixer = from_mamba_ssm(Config(ssm_cfg=SSM["mamba2"]), weights).layers[0].mixer
    assert (mixer.in_proj.weight.dtype, mixer.A_log.dtype, mixer.D.dtype) == (torch.bfloat16, *[torch.float32] * 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    asked = from_mamba_ssm(Config(ssm_cfg=SSM["mamba2"]), weights, dtype=torch.float64, device="meta")
    assert {(p.dtype, p.device.type) for p in asked.parameters()} == {(torch.float64, "meta")}


def without(name):
    return {key: value for key, value in weights_of("mamba2").items() if not key.endswith(name)}


@pytest.mark.parametrize(
    ("config", "weights", "words"),
    [
        (
            Config(rms_norm=False, d_intermediate=16, n_layer=3, ssm_cfg=SSM["mamba2"] | {"rmsnorm": False, "new": 1}),
            weights_of("mamba2"),
            [
                "rms_norm: False was given, but only True is supported",
                "d_intermediate: 16 was given, but the weights have 0", "rmsnorm: False",
                "n_layer: 3 was given, but the weights have 2", "new: 1 was given, but this setting is unknown",
            ],
        ),
        (Config(ssm_cfg=SSM["mamba2"] | {"D_has_hdim": True}), weights_of("mamba2"), ["D_has_hdim: True"]),
        (Config(ssm_cfg=SSM["mamba2"] | {"d_ssm": 8}), weights_of("mamba2"), ["d_ssm: 8 was given"]),
        (Config(ssm_cfg=SSM["mamba2"] | {"d_state": 6}), weights_of("mamba2"), ["d_state: 6", "the weights have 3"]),
        (Config(ssm_cfg={"dt_rank": 2, "bias": True}), weights_of("mamba"), ["dt_rank: 2", "bias: True"]),
        (Config(), weights_of("mamba2"), ["specifies 'mamba' layers, but the weights belong to 'mamba2' layers"]),
        (Config(ssm_cfg={"layer": "Mamba3"}), weights_of("mamba"), ["layer: 'Mamba3'"]),
        (Config(ssm_cfg=SSM["mamba2"]), without("mixer.norm.weight"), ["layers.0.mixer.norm.weight is missing"]),
        (
            Config(ssm_cfg=SSM["mamba"]),
            weights_of("mamba") | {"norm_f.bias": torch.zeros(8), "layers.0.mlp.fc1.weight": torch.zeros(4, 8)},
            ["LayerNorm", "norm_f.bias is unexpected", "layers.0.mlp.fc1.weight is unexpected"],
        ),
        (
            Config(ssm_cfg=SSM["mamba2"], d_intermediate=6),
            weights_of("mamba2") | {"layers.1.mlp.fc2.weight": torch.zeros(8, 6)},
            ["layers.0.mlp.fc1.weight is missing", "layers.0.norm2.weight is missing"],
        ),
        (
            Config(ssm_cfg=SSM["mamba2"]),
            weights_of("mamba2") | {"backbone.layers.1.mixer.D": torch.zeros(16)},
            ["layers.1.mixer.D has shape (16,), but it must be (4,)"],
        ),
        (
            Config(
                ssm_cfg=SSM["mamba2"], attn_layer_idx=[1],
                attn_cfg={"num_heads": 2, "d_conv": 4, "rotary_emb_dim": 4, "rotary_emb_interleaved": True},
            ),
            weights_of("mamba2", attention=[1]),
            ["causal: False", "d_conv: 4", "rotary_emb_interleaved: True"],
        ),
        (Config(ssm_cfg=SSM["mamba2"]), weights_of("mamba2", attention=[1]), ["attn_layer_idx: []", "num_heads: None"]),
        (HUGGING_FACE["mamba"] | {"hidden_act": "gelu"}, weights_of("mamba"), ["activation: 'gelu'"]),
        (HUGGING_FACE["mamba"] | {"model_type": "falcon_mamba"}, weights_of("mamba"), ["model_type: 'falcon_mamba'"]),
        (HUGGING_FACE["mamba2"] | {"num_heads": 8}, weights_of("mamba2"), ["nheads: 8 was given"]),
        ({}, {"weight": torch.zeros(3)}, ["state_dict: it has no layers.N.mixer.in_proj.weight"]),
        ({}, {"layers.0.mixer.in_proj.weight": torch.zeros(3, 3)}, ["it has no layer with"]),
        ({}, {"in_proj.weight": torch.zeros(3, 3)}, ["do not have the shapes of a 'mamba' layer"]),
        ({}, [1], ["state_dict: [1] was given, but it must map names to tensors"]),
        (3, weights_of("mamba"), ["config: 3 was given, but it must be a mapping"]),
    ],
)  # fmt: skip
def test_one_error_lists_all_differences(config, weights, words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as error:
        from_mamba_ssm(config, weights)
    assert all(word in str(error.value) for word in words)


def test_channels_without_states_are_rejected():
    beside = {"in_proj.weight": (2 * 8 + 2 * 8 + 12 + 2, 8), "conv1d.weight": (20, 1, 4), "conv1d.bias": (20,)}
    layout = LAYOUT["mamba2"] | beside | dict.fromkeys(("dt_bias", "A_log", "D"), (2,)) | {"norm.weight": (8,)}
    weights = {name: torch.zeros(shape) for name, shape in layout.items()}
    with pytest.raises(ValueError, match="d_ssm: the weights have 8, but only all 16 channels are supported"):
        from_mamba_ssm({"d_model": 8, "ngroups": 2, "d_ssm": 8}, weights)


@kinds
@pytest.mark.parametrize("bias", [False, True])
def test_models_of_transformers(kind, bias):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    classes = {
        "mamba": (transformers.MambaConfig, transformers.MambaForCausalLM),
        "mamba2": (transformers.Mamba2Config, transformers.Mamba2ForCausalLM),
    }
    limits = {"time_step_limit": (0.01, 0.5 if bias else math.inf)} if kind == "mamba2" else {}
    config = classes[kind][0](**HUGGING_FACE[kind] | limits | {"use_bias": bias, "layer_norm_epsilon": 1e-3})
    torch.manual_seed(0)
    model = classes[kind][1](config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        tokens = torch.randint(50, (2, 12))
        whole = model.backbone(tokens).last_hidden_state
        embedded = model.backbone.embeddings(tokens)
        for given in (config, config.to_dict(), json.loads(config.to_json_string())):
            stack = from_mamba_ssm(given, model.state_dict())
            y, state = stack(embedded[:, :11], return_state=True)
            assert distance(y, whole[:, :11]) < 1e-5
            assert distance(stack.step(embedded[:, 11], state), whole[:, 11]) < 1e-5
