"""A call of a layer: what it is given is checked and brought into the inner layout, run, and given back.

Shapes: L layers, B batch, T time, I input, K recalled memories, H hidden.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from reminding.nn.credit.autograd import reaching_all
from reminding.nn.credit.ledger import Credit
from reminding.nn.credit.network import Network
from reminding.nn.credit.past import Past, taken, with_past
from reminding.nn.forward import compiled
from reminding.nn.forward.reference import autocast_type
from reminding.nn.layer import entering, surroundings
from reminding.nn.layer.choice import Choice
from reminding.nn.layer.layout import Layout, Stretch, enter
from reminding.nn.layer.parameters import LayerParameters
from reminding.nn.layer.runner import Runner
from reminding.nn.layer.stretches import join_time, run_stretches, shapes_of
from reminding.nn.parts.generators import generator_states
from reminding.nn.parts.host import counting_on_host
from reminding.nn.state.history import History
from reminding.nn.state.made_by import MadeBy
from reminding.nn.state.owed import Owed
from reminding.nn.state.segments import EncoderInput
from reminding.nn.state.stream import Recall, SABState, fresh_state
from reminding.ops.backends import BACKENDS, REFERENCE
from reminding.ops.contract import Demand


class LayerCalls(LayerParameters):
    """A layer that can be called; `SAB` says with what."""

    backend: str
    engine: str
    semantics: str
    batch_first: bool
    dropout: float
    recurrent_dropout: float
    credit_every: int
    memory_device: torch.device | None
    _credit: Credit | None = None

    def run(
        self, input: Tensor | PackedSequence, state: Any, reset: Tensor | None, return_recall: bool
    ) -> tuple[Any, SABState] | tuple[Any, SABState, Recall]:
        """`SAB.forward`."""
        surroundings.check_tracing()
        surroundings.check_dense(input)
        if self.training and self.rule.horizon != 0:
            surroundings.check_checkpoint()
        with counting_on_host():
            network = self._network(input, state)
            with network.modules.in_call():
                return self._run_with(network, input, state, reset, return_recall)

    def settle(self, state: SABState) -> None:
        """Send on the credit that waits in a state; it is added to the parameters' `grad`, as by a backward pass.

        With `credit_every` above 1 the last calls of a stream leave credit behind: settle the state they returned
        before the last step of the optimizer. Parameters' hooks run. Under DistributedDataParallel this gradient is
        the process's own: to have it averaged, set `layer.credit_every = 1` before the last chunk instead, whose
        backward pass then sends on all that waits.

        Raises:
            ValueError: another layer made the state.
        """
        if not state.history.waits:
            return
        entering.check_maker(state, self.made_by)
        with counting_on_host(), torch.enable_grad():
            network = self._network(self.like(), None)
            with network.modules.in_call(), torch.no_grad():
                moved = state if self.memory_device is None else state.with_memory_on(self.like().device)
                history = moved.history.changed(rule=self.rule)
                found = self._past(history, network).send(taken(history))
        pairs = zip(network.tensors, found, strict=True)
        reached = [(tensor, d) for tensor, d in pairs if d is not None and tensor.requires_grad]
        if reached:
            tensors, gradients = zip(*reached, strict=True)
            torch.autograd.backward(tensors, gradients)

    def __prepare_scriptable__(self) -> None:
        """What torch.jit.script asks for."""
        surroundings.refuse_script()

    def _run_with(
        self,
        network: Network,
        input: Tensor | PackedSequence,
        state: Any,
        reset: Tensor | None,
        return_recall: bool,
    ) -> tuple[Any, SABState] | tuple[Any, SABState, Recall]:
        """`run`, with the tensors that the layer computes with in this call."""
        like = self.like()
        encoder_input = self._encoder_input(input, network, like)
        x, layout = enter(input, self.encoder, self.batch_first)
        entering.check_input(x, self.input_size, like, self.encoder is not None)
        network = replace(network, note=None if self._credit is None else partial(self._credit.take, layout.order))
        before = self._enter_state(state, x.shape[1], layout, network)
        mask = layout.reset_mask(reset, len(x), x.shape[1])
        runner = self._runner(len(x), before, return_recall, encoder_input, network)
        if like.device.type == "meta" and runner.network.backend == REFERENCE:
            output, after, recall = shapes_of(x, before, self.rule, return_recall)
        else:
            output, after, recall = self._run_stretches(x, before, layout.stretches(len(x), x.shape[1], mask), runner)
            if runner.keeps_graph:
                output, after = reaching_all(output, after, network)
        after = after if self.memory_device is None else after.with_memory_on(self.memory_device)
        result = layout.output(output), layout.unsorted_rows(after)
        if recall is None:
            return result
        axis = 0 if self.num_layers == 1 else 1
        step, weight = (tensor.squeeze(0) if axis == 0 else tensor for tensor in (recall.step, recall.weight))
        return *result, Recall(layout.aside(recall.summary), layout.aside(step, axis), layout.aside(weight, axis))

    def choice(self, transform: str | None = None) -> Choice:
        """The choice of code for this layer as it is now.

        Args:
            transform: of derivatives that is in force, see `Demand`.
        """
        like = self.like()
        demand = Demand(
            cell=self.cell if self._user_cells is None else None,
            score=None if self._own_scorers else self.score,
            k_top=self.k_top,
            capacity=self.rule.capacity,
            evict=self.rule.evict_name,
            credits_past=self.rule.horizon != 0,
            device=like.device,
            dtype=like.dtype,
            widest=max(self.hidden_size, self.score_size),
            memories=0,
            transform=transform,
            recurrent_dropout=self.training and self.recurrent_dropout > 0,
            extras=self.rule.extras,
        )
        return Choice(self.backend, self.engine, self.rule, demand, watched=self._credit is not None)

    def _most_alive(self, state: SABState, steps: int) -> int:
        """The most memories that a step of a call of so many finds, in any row and layer."""
        memories = [layer.memory for layer in state.layers]
        return max((compiled.most_alive(memory, state.step, steps, self.rule) for memory in memories), default=0)

    def _encoder_input(self, input: Tensor | PackedSequence, network: Network, like: Tensor) -> EncoderInput | None:
        """What credit from later calls needs of the input; None where no encoder takes it or nothing is kept."""
        if self.encoder is None or not self._remembers_calls(network):
            return None
        if not isinstance(cast("object", input), Tensor | PackedSequence):
            return None  # which `enter` refuses
        generators = generator_states(like.device) if self.encoder.training else None
        return EncoderInput.of(input, generators, network.modules.modes)

    def _remembers_calls(self, network: Network) -> bool:
        """Whether a call is kept for credit from later ones."""
        return torch.is_grad_enabled() and self.rule.horizon != 0 and network.transform is None

    def _enter_state(self, state: Any, rows: int, layout: Layout, network: Network) -> SABState:
        like = self.like()
        fresh = replace(self._fresh(rows, like), batched=layout.batched)
        if state is None:
            return self._begun(fresh) if self._remembers_calls(network) else fresh
        if isinstance(state, SABState):
            entering.check_state(state, fresh)
            entering.check_capacity(state, self.rule.capacity)
            if self._remembers_calls(network):
                state.history = self._ordered(state)  # the same past, which need not be put in order again
            state = replace(state, made_by=fresh.made_by)
            state = state if self.memory_device is None else state.with_memory_on(like.device)
            return self._with_past(layout.sorted_rows(state.without_graph()), network)
        begun = entering.begin_from(state, fresh)
        return layout.sorted_rows(self._begun(begun) if self._remembers_calls(network) else begun)

    def _fresh(self, rows: int, like: Tensor) -> SABState:
        fresh = fresh_state(rows, self.hidden_size, self.state_shapes, like, self.semantics == "release")
        return replace(fresh, made_by=self.made_by)

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
        )

    def _with_past(self, state: SABState, network: Network) -> SABState:
        """A state whose gradient reaches into the calls that led to it."""
        if network.transform is not None and torch.is_grad_enabled() and self.rule.horizon != 0:
            if not state.history.empty:
                raise ValueError(
                    f"state has past calls, into which no gradient goes under {network.transform}; "
                    "state.detach() goes on without them"
                )
            return state
        if not self._remembers_calls(network):
            return state
        history = self._ordered(state)
        if history.empty:
            return self._begun(replace(state, history=history))
        owed = Owed()
        due = len(history.owing) + 1 >= self.credit_every or self._credit is not None
        past = self._past(history, network)
        if self.credit_every > 1 or history.owing:
            history = history.changed(owed=(*history.owing, owed))
        return with_past(replace(state, history=history), past, owed, due)

    def _begun(self, state: SABState) -> SABState:
        """A state before the first call, which counts as one of those whose credit is sent on together."""
        if self.credit_every == 1:
            return state
        return replace(state, history=state.history.changed(owed=(Owed(),)))

    def _ordered(self, state: SABState) -> History:
        """A state's history, put in order unless credit waits in it."""
        history = state.history.changed(rule=self.rule, settle=weakref.WeakMethod(self.settle))
        if history.owing and (history.waits or len(history.owing) < self.credit_every):
            return history
        for owed in history.owing:
            owed.settled = True
        return history.in_order([layer.memory for layer in state.layers], state.step)

    def _past(self, history: History, network: Network) -> Past:
        """A past as credit is sent into it with the tensors of a network."""
        op = BACKENDS[network.backend].op if network.backend != REFERENCE else None
        on_op = op is not None and op.credits_past(self.k_top) and self._credit is None
        return Past(network, history, None if self.encoder is None else self._encode, on_op)

    def _encode(self, given: EncoderInput) -> Tensor:
        return enter(given.given, self.encoder, self.batch_first)[0]

    def _run_stretches(
        self, x: Tensor, state: SABState, stretches: list[Stretch], runner: Runner
    ) -> tuple[Tensor, SABState, Recall | None]:
        """All layers over all of the time that came in."""
        rows, record = x.shape[1], runner.record
        outputs, after, recalls = run_stretches(x, state, stretches, runner.run)
        if not outputs:
            output = x.new_zeros(0, rows, self.hidden_size)
            nothing = x.new_zeros(self.num_layers, 0, rows, self.k_top or 0)
            return output, after, Recall(torch.zeros_like(output), nothing.long(), nothing) if record else None
        return torch.cat(outputs), after, join_time(recalls, rows) if record else None

    def _runner(
        self, steps: int, before: SABState, record: bool, encoder_input: EncoderInput | None, network: Network
    ) -> Runner:
        """How this call is run; `network` is the one that credit into past calls goes to."""
        choice = self.choice(network.transform)
        backend = choice.backend_for(self._most_alive(before, steps))
        return Runner(
            network=replace(network, modules=self.user_modules(with_encoder=False), backend=backend),
            replay=torch.is_grad_enabled() and choice.replays(steps),
            may_fall_back=choice.may_fall_back,
            may_fuse=choice.may_fuse,
            record=record,
            remember=self._remembers_calls(network),
            encoder_input=encoder_input,
            dropout=self.dropout if self.training else 0.0,
            defers=self.credit_every > 1 or bool(before.history.owing),
            factors=self.draw_factors(before),
        )

    def draw_factors(self, state: SABState) -> tuple[Tensor, ...]:
        """What recurrent dropout multiplies h by on its way into the cells of a call, (B, H) each; () without it."""
        p = self.recurrent_dropout if self.training else 0.0
        if p == 0:
            return ()
        scale = 1 / (1 - p) if p < 1 else 0.0
        return tuple((torch.rand_like(layer.h) >= p).to(layer.h.dtype) * scale for layer in state.layers)

    def _network(self, input: Tensor | PackedSequence, state: Any) -> Network:
        """The layers with the tensors they have now, and the encoder; a parametrization is computed once a call.

        Args:
            input, state: the call's; what surrounds the call shows in them too.
        """
        network = Network(
            layers=tuple(self.bound(layer) for layer in range(self.num_layers)),
            rule=self.rule,
            backend=REFERENCE,
            modules=self.user_modules(with_encoder=True),
            autocast=autocast_type(self.like().device.type),
            dropout_scale=1 / (1 - self.dropout) if self.dropout < 1 else 0.0,
        )
        given = [input.data if isinstance(input, PackedSequence) else input]
        given += state if isinstance(state, tuple | list) else []
        tensors = [tensor for tensor in given if isinstance(cast("object", tensor), Tensor)]
        transform = surroundings.transform_of([*tensors, *network.tensors])
        return replace(network, backend=self.choice(transform).backend_for(memories=0), transform=transform)
