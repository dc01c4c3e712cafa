"""The shape of a decoder: its parameters by part, as transformers builds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rlvr.plan.families import Family

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""The attention's projections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear module of a decoder layer."""

    name: str
    """`q_proj`."""
    inputs: int
    """Width of what it reads."""
    outputs: int
    """Width of what it writes."""
    biased: bool = False
    """Whether it adds a bias."""

    @property
    def path(self) -> str:
        """Its name within its layer."""
        return f"{'self_attn' if self.name in ATTENTION else 'mlp'}.{self.name}"

    @property
    def parameters(self) -> int:
        """Numbers in it."""
        return self.inputs * self.outputs + self.outputs * self.biased


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The widths of a decoder."""

    name: str
    """Of the model, for a person."""
    kind: str
    """Its `model_type`."""
    family: Family
    """What that means."""
    hidden: int
    """Width of the residual stream."""
    layers: int
    """Decoder layers."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key/value heads."""
    head_dim: int
    """Width of a head."""
    mlp: int
    """Inner width of a dense MLP."""
    vocabulary: int
    """Rows of the embedding."""
    tied: bool
    """Whether the output head is the embedding."""
    attention_bias: bool
    """`attention_bias` of the configuration."""
    mlp_bias: bool
    """`mlp_bias` likewise."""
    context: int
    """Longest sequence, in tokens."""
    experts: int = 0
    """Experts of a sparse layer; 0: all layers are dense."""
    chosen: int = 0
    """Experts that a token goes through."""
    expert_mlp: int = 0
    """Inner width of an expert."""
    dense_layers: int = 0
    """Layers with a dense MLP in a model with experts."""
    window_layers: int = 0
    """Layers that attend to a sliding window."""
    window: int = 0
    """Its tokens."""
    notes: tuple[str, ...] = ()
    """What of this is a guess."""

    @property
    def queries(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all key heads, and of all value heads."""
        return self.kv_heads * self.head_dim

    def attention(self) -> list[Linear]:
        """The four projections of a layer."""
        asked = self.family.biases == "asked" and self.attention_bias
        read = asked or self.family.biases == "qkv"
        return [
            Linear(name="q_proj", inputs=self.hidden, outputs=self.queries, biased=read),
            Linear(name="k_proj", inputs=self.hidden, outputs=self.keys, biased=read),
            Linear(name="v_proj", inputs=self.hidden, outputs=self.keys, biased=read),
            Linear(name="o_proj", inputs=self.queries, outputs=self.hidden, biased=asked),
        ]

    def dense(self) -> list[Linear]:
        """The three projections of a dense MLP."""
        biased = self.family.has_mlp_bias and self.mlp_bias
        return [
            Linear(name="gate_proj", inputs=self.hidden, outputs=self.mlp, biased=biased),
            Linear(name="up_proj", inputs=self.hidden, outputs=self.mlp, biased=biased),
            Linear(name="down_proj", inputs=self.mlp, outputs=self.hidden, biased=biased),
        ]

    @property
    def sparse_layers(self) -> int:
        """Layers with experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def router(self) -> int:
        """Parameters that choose a token's experts, a sparse layer."""
        return self.experts * self.hidden

    @property
    def expert(self) -> int:
        """Parameters of one expert."""
        return 3 * self.hidden * self.expert_mlp

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and of the head."""
        return self.vocabulary * self.hidden

    @property
    def layer(self) -> int:
        """Parameters of the largest decoder layer."""
        mlp = self.experts * self.expert + self.router if self.sparse_layers else _count(self.dense())
        return _count(self.attention()) + mlp + self._norms

    @property
    def parameters(self) -> int:
        """All of them."""
        dense = self.layers - self.sparse_layers
        return (
            self.root
            + self.layers * (_count(self.attention()) + self._norms)
            + dense * _count(self.dense())
            + self.sparse_layers * (self.experts * self.expert + self.router)
        )

    @property
    def root(self) -> int:
        """Parameters outside the decoder layers: embedding, head, last norm."""
        return self.embedding * (1 if self.tied else 2) + self.hidden

    @property
    def active(self) -> int:
        """Weights of the layers' matrices that one token is multiplied with; the head is not among them."""
        dense = self.layers - self.sparse_layers
        return (
            self.layers * sum(m.inputs * m.outputs for m in self.attention())
            + dense * sum(m.inputs * m.outputs for m in self.dense())
            + self.sparse_layers * (self.chosen * self.expert + self.router)
        )

    def linears(self) -> Iterator[tuple[int, Linear]]:
        """(layers that have it, module) of every linear module in the decoder layers."""
        yield from ((self.layers, module) for module in self.attention())
        yield from ((self.layers - self.sparse_layers, module) for module in self.dense())

    @property
    def _norms(self) -> int:
        return self.family.norms * self.hidden + 2 * self.head_dim * self.family.has_head_norms


def _count(modules: list[Linear]) -> int:
    return sum(module.parameters for module in modules)
