"""The parameters of a SAB layer: their names and layouts, how they are drawn, and cells and scorers bound to them.

Shapes: I input, H hidden, D score width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from operator import is_
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from reminding import checks
from reminding.nn.layer import surroundings
from reminding.nn.parts import settings
from reminding.nn.parts.bound import BoundLayer, bind
from reminding.nn.parts.cells import CELLS, Shape, UserCell, uniform_bound
from reminding.nn.parts.forget_bias import ForgetBias
from reminding.nn.parts.outside import WatchedScorer, watched_cell
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.scorers import RecallWeights
from reminding.nn.parts.user_modules import UserModules, sharded_in
from reminding.nn.state.made_by import MadeBy
from reminding.nn.state.stream import SABState
from reminding.ops import untraced
from reminding.ops.scores import SCORES

BIASES = ("bias_ih", "bias_hh")


class _Bound(NamedTuple):
    """A layer bound to its parameters, and what it depends on."""

    rule: Rule
    tensors: tuple[nn.Parameter, ...]
    layer: BoundLayer


_BOUND: WeakKeyDictionary[nn.Module, dict[int, _Bound]] = WeakKeyDictionary()
"""The layers of each module, bound to their parameters for as long as these stay the same tensors."""


@functools.cache
def _names_of(cell: str, bias: bool, score: str | None, null_score: bool, layer: int) -> tuple[str, ...]:
    recurrent = [name for name in CELLS[cell].weight_shapes(1, 1) if bias or name not in BIASES]
    recall = [] if score is None else [*SCORES[score].parameters, *(["null_score"] if null_score else [])]
    return tuple(f"{name}_l{layer}" for name in (*recurrent, *recall))


def _without_graph(given: Any) -> Any:
    return given.without_graph() if isinstance(given, SABState) else given


class LayerParameters(nn.Module):
    """What a SAB layer learns; `SAB` says how the parameters are named and laid out."""

    input_size: int
    hidden_size: int
    num_layers: int
    score_size: int
    bias: bool
    forget_bias: ForgetBias | None
    null_score: float | None
    summary_gate: float | None
    bidirectional = False
    proj_size = 0
    encoder: nn.Module | None
    semantics: str
    rule: Rule
    _made = False

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """`forward` and the module's hooks; torch.compile goes around them.

        A hook of FSDP2 joins all that it is given in one node of the graph. Through it a gradient of the input would
        go on into the calls that led to a state, whose credit takes another way. So states are given without graph.
        """
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            surroundings.check_tracing()  # here, as torch.onnx.export gives the options of `forward` by their place
        if self._forward_pre_hooks and sharded_in([self]) is not None:
            arguments = tuple(map(_without_graph, arguments))
            options = {name: _without_graph(value) for name, value in options.items()}
        if torch.compiler.is_compiling():
            return untraced.run(super().__call__, *arguments, **options)
        return super().__call__(*arguments, **options)

    @property
    def k_top(self) -> int | None:
        """How many memories a step may recall, or None for all."""
        return self.rule.k_top

    @property
    def k_att(self) -> int:
        """A state is stored every this many steps."""
        return self.rule.k_att

    @property
    def k_trunc(self) -> int | None:
        """The recurrent gradient is cut every this many steps, or never where it is None."""
        return self.rule.k_trunc

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The recurrent weights, a list per layer, as `nn.LSTM` has them; the weights of the scores are not in it.

        Raises:
            AttributeError: the cells are modules of your own, in `cells`.
        """
        if self._user_cells is not None:
            raise AttributeError("all_weights are those of built-in cells; modules of your own are in cells")
        layers = range(self.num_layers)
        return [[weight for weight in self._weights(layer) if weight is not None] for layer in layers]

    def flatten_parameters(self) -> None:
        """Do nothing: `nn.LSTM` lays its weights out for cuDNN here, which does not compute this layer."""

    def build(
        self,
        cell: str | nn.Module | Sequence[nn.Module],
        score: str | nn.Module | Sequence[nn.Module],
        remembers: bool,
        kind: dict[str, Any],
    ) -> None:
        """Make the parameters of cells and, where anything is remembered, of scorers."""
        self._build_cells(cell, kind)
        self._build_scorers(score, remembers, kind)
        for layer in range(self.num_layers):
            if self.rule.null_score:
                self._add(f"null_score_l{layer}", (1,), kind)
            if self.rule.summary_gate:
                self._add(f"summary_gate_l{layer}", (self.hidden_size,), kind)
        self.reset_parameters()
        self._made = True

    def _build_cells(self, cell: str | nn.Module | Sequence[nn.Module], kind: dict[str, Any]) -> None:
        sizes = [self.input_size] + [self.hidden_size] * (self.num_layers - 1)
        if isinstance(cell, str):
            self.cell = checks.one_of("cell", cell, tuple(CELLS))
            for layer, size in enumerate(sizes):
                for name, shape in CELLS[cell].weight_shapes(size, self.hidden_size).items():
                    if self.bias or name not in BIASES:
                        self._add(f"{name}_l{layer}", shape, kind)
            self._user_cells = None
            self.state_shapes = [CELLS[cell].state_shapes(self.hidden_size)] * self.num_layers
            return
        self.cells = nn.ModuleList(settings.modules("cell", cell, self.num_layers))
        self.cells.to(**kind)
        self.cell = type(self.cells[0]).__name__
        self._user_cells = [
            UserCell(module, size, self.hidden_size) for module, size in zip(self.cells, sizes, strict=True)
        ]
        self.state_shapes: list[tuple[Shape, ...]] = [user.state_shapes for user in self._user_cells]

    def _build_scorers(
        self, score: str | nn.Module | Sequence[nn.Module], remembers: bool, kind: dict[str, Any]
    ) -> None:
        self._own_scorers = False
        self._remembers = remembers
        if isinstance(score, str):
            self.score = checks.one_of("score", score, tuple(SCORES))
            built_in = SCORES[self.score]
            shapes = built_in.shapes(self.hidden_size, self.score_size)
            for layer in range(self.num_layers if remembers else 0):
                for name, shape in zip(built_in.parameters, shapes, strict=True):
                    self._add(f"{name}_l{layer}", shape, kind)
            return
        self.scorers = nn.ModuleList(settings.modules("score", score, self.num_layers))
        self.scorers.to(**kind)
        self.score = type(self.scorers[0]).__name__
        for module in self.scorers:
            settings.scorer(module)
        self._own_scorers = True

    def _add(self, name: str, shape: Shape, kind: dict[str, Any]) -> None:
        self.register_parameter(name, nn.Parameter(torch.empty(shape, **kind)))

    def reset_parameters(self) -> None:
        """Draw the layer's own parameters anew: uniform within 1/sqrt(fan), as `nn.LSTM` does.

        The fan is H for the recurrent weights, the width of the vector it multiplies for the scorer's. The
        recurrent weights are drawn first, so that from one seed they equal those of an `nn.LSTM`. `forget_bias` is
        written last. Null scores and gates begin as the layer was told.
        """
        own = dict(self.named_parameters(recurse=False))
        for name, parameter in own.items():
            if name.startswith("null_score"):
                nn.init.constant_(parameter, self.null_score or 0.0)
                continue
            if name.startswith("summary_gate"):
                nn.init.constant_(parameter, math.atanh(self.summary_gate or 0.0))
                continue
            fan = parameter.shape[-1] if name.startswith("score") else self.hidden_size
            bound = uniform_bound(fan)
            nn.init.uniform_(parameter, -bound, bound)
        if self.forget_bias is None:
            return
        for layer in range(self.num_layers):
            bias_ih, bias_hh = (own.get(f"{name}_l{layer}") for name in BIASES)
            if bias_ih is not None and bias_hh is not None:  # a parametrization may make them
                self.forget_bias.begin(bias_ih, bias_hh, self.cell)

    def bound(self, layer: int) -> BoundLayer:
        """One layer with the tensors it has now; a parametrization computes them anew at every call of this."""
        mine = self._parameters_of(layer)
        if mine is None:
            return self.bound_to(layer, *self.own_modules(layer))
        known = _BOUND.setdefault(self, {})
        held = known.get(layer)
        if held is None or held.rule is not self.rule or not all(map(is_, held.tensors, mine)):
            held = known[layer] = _Bound(self.rule, mine, self.bound_to(layer, None, None))
        return held.layer

    def _parameters_of(self, layer: int) -> tuple[nn.Parameter, ...] | None:
        """The parameters of one layer where it is made of these alone, as they are."""
        if self.has_own_modules or self.rule.summary_gate:
            return None
        own: dict[str, Tensor | None] = vars(self)["_parameters"]
        found = tuple(own.get(name) for name in self._names(layer))
        plain = all(type(parameter) is nn.Parameter for parameter in found)  # torch.func puts others in their places
        return cast("tuple[nn.Parameter, ...]", found) if plain else None

    def _names(self, layer: int) -> tuple[str, ...]:
        """The names of one layer's parameters, where cell and scorer are built in."""
        return _names_of(self.cell, self.bias, self.score if self._remembers else None, self.rule.null_score, layer)

    @property
    def made_by(self) -> MadeBy:
        """What the record of this layer's calls rests on."""
        return MadeBy(
            input_size=self.input_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            cell=self.cell,
            score=self.score,
            k_top=self.k_top,
            k_att=self.k_att,
            k_trunc=self.k_trunc,
            normalizer=self.rule.normalizer,
            semantics=self.semantics,
            encoder=None if self.encoder is None else type(self.encoder).__name__,
            stored=self.rule.stored,
            capacity=self.rule.capacity,
            evict=self.rule.evict_told,
            recall_scale=self.rule.recall_scale,
            forget_scale=self.rule.forget_scale,
            backtrack=self.rule.backtrack,
        )

    def watched(self, layer: int) -> BoundLayer:
        """`bound`, with cells and scorers of one's own as a watch sees them."""
        bound = self.bound(layer)
        cell, scorer = self.own_modules(layer)
        if cell is not None:
            bound = replace(bound, cell=watched_cell(cell, bound.cell))
        if scorer is not None and bound.scorer is not None:
            watched = WatchedScorer(scorer, bound.scorer.scorer)
            bound = replace(bound, scorer=replace(bound.scorer, scorer=watched))
        return bound

    @property
    def has_own_modules(self) -> bool:
        """Whether cells or scorers are the user's own."""
        return self._user_cells is not None or self._own_scorers

    def own_modules(self, layer: int) -> tuple[nn.Module | None, nn.Module | None]:
        """The user's own cell and scorer of one layer, as they are now; None for built-in ones, or where unused."""
        cell = None if self._user_cells is None else self.cells[layer]
        return cell, self.scorers[layer] if self._own_scorers and self._remembers else None

    def bound_to(self, layer: int, own_cell: nn.Module | None, own_scorer: nn.Module | None) -> BoundLayer:
        """One layer with these modules in the place of `own_modules`."""
        cell = self.cell  # a class may be called "gru"
        if own_cell is not None and self._user_cells is not None:
            cell = self._user_cells[layer].step_of(own_cell)
        score = self.score if not self._own_scorers else None if own_scorer is None else settings.scorer(own_scorer)
        weights = self._weights(layer) if self._user_cells is None else ()
        return bind(cell, score, weights, self._score_weights(layer), self._learned(layer), self.rule.forget_scale)

    def user_modules(self, with_encoder: bool) -> UserModules:
        """The modules of the layer's user, as `given_modules` has them, to be run again."""
        return UserModules(self.given_modules(with_encoder))

    def given_modules(self, with_encoder: bool) -> list[nn.Module]:
        """The user's modules: its cells, its scorers where anything is recalled, and the encoder."""
        cells = list(self.cells) if self._user_cells is not None else []
        scorers = list(self.scorers) if self._own_scorers and self._remembers else []
        return [*cells, *scorers, *([self.encoder] if with_encoder and self.encoder is not None else [])]

    def like(self) -> Tensor:
        """A tensor of the layer's device and type."""
        own: dict[str, Tensor | None] = vars(self)["_parameters"]
        first = next((parameter for parameter in own.values() if parameter is not None), None)
        if first is not None:
            return first
        for name, parameter in self.named_parameters():
            if not name.startswith("encoder."):
                return parameter
        encoder: set[nn.Module] = set() if self.encoder is None else set(self.encoder.modules())
        for module in self.modules():  # whose parameters may be views that another module set
            for value in vars(module).values() if module not in encoder else ():
                if isinstance(value, Tensor) and value.is_floating_point():
                    return value
        return torch.zeros(())

    def _weights(self, layer: int) -> tuple[Tensor | None, ...]:
        """A built-in cell's weight_ih, weight_hh, bias_ih, bias_hh."""
        names = CELLS[self.cell].weight_shapes(1, 1)
        return tuple(getattr(self, f"{name}_l{layer}", None) for name in names)

    def _learned(self, layer: int) -> RecallWeights:
        """What a recall learns besides its score."""
        null_score = getattr(self, f"null_score_l{layer}") if self.rule.null_score else None
        gate = torch.tanh(getattr(self, f"summary_gate_l{layer}")) if self.rule.summary_gate else None
        return RecallWeights(null_score, gate)

    def _score_weights(self, layer: int) -> tuple[Tensor, ...]:
        """A built-in scorer's parameters, in the order of its equation; none where nothing is recalled."""
        names = SCORES[self.score].parameters if self._remembers and not self._own_scorers else ()
        return tuple(getattr(self, f"{name}_l{layer}") for name in names)
