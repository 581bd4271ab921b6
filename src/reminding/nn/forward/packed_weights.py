"""A layer's weights as an op reads them, packed once for as long as its parameters stay as they are.

Shapes: the op's own, see ops/serving.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from reminding.nn.forward.compiled import op_rule
from reminding.nn.parts.bound import BoundLayer
from reminding.nn.parts.rule import Rule
from reminding.nn.state.made_by import MadeBy
from reminding.ops.backends import BACKENDS, REFERENCE
from reminding.ops.contract import OpRule
from reminding.ops.serving import Packed, Server


class ServedLayer(Protocol):
    """What serving needs of a layer."""

    num_layers: int
    training: bool
    dropout: float
    recurrent_dropout: float
    backend: str
    rule: Rule

    @property
    def has_own_modules(self) -> bool:
        """Whether cells or scorers are the user's own."""
        ...

    @property
    def made_by(self) -> MadeBy:
        """Which layer it is, for its states."""
        ...

    def bound(self, layer: int) -> BoundLayer:
        """One layer with its tensors."""
        ...

    def backend_now(self) -> str:
        """The backend of a call whose steps find no memories."""
        ...


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The weights of one layer of a stack, in one version. Keys made with one serve with the same one alone."""

    packed: Packed
    scorer: tuple[Tensor, ...]
    op_rule: OpRule

    @property
    def k_top(self) -> int:
        """How many memories a step may recall."""
        return self.op_rule.k_top

    @property
    def k_att(self) -> int:
        """A state is stored every this many steps."""
        return self.op_rule.k_att


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a layer in one version, and what else follows from its settings.

    Attributes:
        marks: by which a new version is told: each parameter's name, itself, its version and where it lies.
        aliases: the parameters without their graph; print: of their numbers, which writing to `parameter.data`
            changes while version and place stay; backend: as the layer was asked to take it.
    """

    server: Server
    layers: tuple[LayerWeights, ...]
    rule: Rule
    made_by: MadeBy
    like: Tensor
    marks: tuple[tuple[str, Tensor, int, int], ...]
    aliases: list[Tensor]
    print: int
    backend: str

    def hold_for(self, layer: ServedLayer) -> bool:
        """Whether the layer's weights and settings are still these."""
        table: dict[str, Any] = vars(layer)["_parameters"]
        for name, tensor, version, place in self.marks:
            if table.get(name) is not tensor or tensor._version != version or tensor.data_ptr() != place:
                return False
        same = layer.rule is self.rule and layer.backend == self.backend
        return same and self.server.fingerprint(self.aliases) == self.print


_KEPT: WeakKeyDictionary[Any, Weights] = WeakKeyDictionary()
"""The weights of each layer that has been served."""


def weights_of(layer: ServedLayer) -> Weights | None:
    """The layer's weights as they are now; None where no op can serve it as it is now."""
    dropping = layer.training and (layer.recurrent_dropout > 0 or (layer.dropout > 0 and layer.num_layers > 1))
    if dropping or layer.rule.k_top is None or layer.has_own_modules:
        return None
    kept = _KEPT.get(layer)
    if kept is not None and kept.hold_for(layer):
        return kept
    _KEPT.pop(layer, None)
    made = _weights(layer)
    if made is not None:
        _KEPT[layer] = made
    return made


def _weights(layer: ServedLayer) -> Weights | None:
    backend = layer.backend_now()
    server = None if backend == REFERENCE else BACKENDS[backend].server
    if server is None:
        return None
    with torch.inference_mode(False), torch.no_grad():
        bound = [layer.bound(number) for number in range(layer.num_layers)]
        marks = _marks(layer, [tensor for each in bound for tensor in each.tensors])
        if marks is None:
            return None
        layers: list[LayerWeights] = []
        for each in bound:
            rule = op_rule(each, layer.rule, cast("int", layer.rule.k_top))
            scorer = tuple(weight.detach().clone() for weight in each.recall_tensors)
            layers.append(LayerWeights(server.pack(each.weights, scorer, rule), scorer, rule))
        aliases = [tensor.detach().contiguous() for _, tensor, _, _ in marks]
        like = torch.zeros_like(aliases[0][:0])
        print_ = server.fingerprint(aliases)
    return Weights(server, tuple(layers), layer.rule, layer.made_by, like, marks, aliases, print_, layer.backend)


def _marks(layer: ServedLayer, tensors: Sequence[Tensor]) -> tuple[tuple[str, Tensor, int, int], ...] | None:
    """How to tell that the layer's tensors have changed; None where they are no parameters, which are made anew."""
    names = {id(tensor): name for name, tensor in vars(layer)["_parameters"].items() if tensor is not None}
    plain = all(
        id(tensor) in names
        and type(tensor) is nn.Parameter
        and not tensor.is_inference()
        and tensor.is_contiguous()
        and tensor.data_ptr() != 0
        for tensor in tensors
    )
    if not plain:
        return None
    return tuple((names[id(tensor)], tensor, tensor._version, tensor.data_ptr()) for tensor in tensors)
