"""A call of a layer: what it is given is checked and brought into the inner layout, run, and given back.

Shapes: L layers, B batch, T time, I input, K recalled memories, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from reminding.nn.credit.autograd import Pass, completed
from reminding.nn.credit.ledger import Credit, noting
from reminding.nn.credit.network import Network
from reminding.nn.credit.past import PastCredit, counted, ordered, with_past
from reminding.nn.forward import compiled, served
from reminding.nn.forward.packed_weights import Weights, weights_of
from reminding.nn.forward.reference import autocast_type
from reminding.nn.layer import entering, surroundings
from reminding.nn.layer.choice import Choice
from reminding.nn.layer.layout import Layout, enter, name_of_input
from reminding.nn.layer.parameters import LayerParameters
from reminding.nn.layer.pieces import run_streams
from reminding.nn.layer.runner import Runner, draw_factors
from reminding.nn.layer.stretches import no_steps, run_all, shapes_of, with_graph_of
from reminding.nn.parts.generators import drawing_as, generator_states
from reminding.nn.parts.outside import Watch, check_found, watched, watching
from reminding.nn.parts.tensors import all_finite, counting_on_host
from reminding.nn.parts.user_modules import UserModules, make_weights
from reminding.nn.state.past.history import History
from reminding.nn.state.past.maker import Maker
from reminding.nn.state.past.owed import Owed, credits_in, sent_on
from reminding.nn.state.past.segments import EncoderInput
from reminding.nn.state.stream import Recall, SABState, fresh_state
from reminding.ops.backends import BACKENDS, REFERENCE
from reminding.ops.contract import Demand
from reminding.ops.untraced import own_precision

Entered = tuple[Tensor, Layout]
"""An input in the inner layout (T, B, I), through the encoder, and how it came in."""


class LayerCalls(LayerParameters):
    """A layer that can be called; `SAB` says with what."""

    backend: str
    engine: str
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
        surroundings.check_whole("cell", self.cells if self._user_cells is not None else ())
        surroundings.check_whole("score", self.scorers if self._own_scorers else ())
        surroundings.check_checkpoint(input, self.training, self.rule)
        entered: Entered | None = None
        if isinstance(state, SABState) and not torch.is_grad_enabled() and isinstance(input, Tensor):
            with counting_on_host():
                weights = self.weights_to_serve(input) if state.history.empty else None
                if weights is not None:
                    entered = self.entered(input)
                    if 0 < len(entered[0]) <= served.LONGEST:
                        return self._served(entered, state, weights, reset, return_recall)
        with counting_on_host():
            network, choice = self._network(input, state)
            with network.modules.in_call():
                return self._run_with(network, choice, entered, input, state, reset, return_recall)

    def settle(self, state: SABState) -> None:
        """Send on the credit that waits in a state; it is added to the parameters' `grad`, as by a backward pass.

        With `credit_every` above 1 the last calls of a stream leave credit behind: settle the state they returned
        before the last step of the optimizer. Parameters' hooks run. Under DistributedDataParallel this gradient is
        the process's own: to have it averaged, set `layer.credit_every = 1` before the last chunk instead, whose
        backward pass then sends on all that waits. Under FSDP that is the only way.

        Raises:
            ValueError: another layer made the state; or FSDP divides the parameters.
        """
        if not state.history.waits:
            return
        entering.check_maker(state, self.made_by, self.maker)
        surroundings.check_gathered(self)
        make_weights(self)  # as before a call
        with counting_on_host(), torch.enable_grad(), own_precision(self.like().device.type):
            network = replace(self._network(self.like(), None)[0], note=noting(self._credit))
            with network.modules.in_call(), torch.no_grad():
                state.history = state.history.changed(rule=self.rule)  # one from a file has none
                moved = state if self.memory_device is None else state.with_memory_on(self.like().device)
                owing = moved.history.owing
                found = self._past(moved.history, network).send(credits_in(owing))
        pairs = zip(network.tensors, found, strict=True)
        reached = [(tensor, d) for tensor, d in pairs if d is not None and tensor.requires_grad]
        if reached:
            tensors, gradients = zip(*reached, strict=True)
            torch.autograd.backward(tensors, gradients)
        sent_on(owing)  # a hook may have raised

    def __prepare_scriptable__(self) -> None:
        """What torch.jit.script asks for."""
        surroundings.refuse_script()

    def weights_to_serve(self, input: Tensor) -> Weights | None:
        """The weights where a call without gradient, of an input in any layout, can go on on slots; else None."""
        if self._credit is not None or self.memory_device is not None or not surroundings.none_for(input):
            return None
        return weights_of(self)

    def entered(self, input: Tensor) -> Entered:
        """An input through the encoder in the inner layout, (T, B, I), checked, in the parameters' type."""
        if self.encoder is None:
            x, layout = enter(input, None, self.batch_first)
        else:
            with self.user_modules(with_encoder=True).in_call():
                x, layout = enter(input, self.encoder, self.batch_first)
        entering.check_input(x, self.input_size, self.like(), name_of_input(self.encoder))
        return x.to(self.like().dtype), layout  # which autocast may have lowered

    def _served(
        self, entered: Entered, state: SABState, weights: Weights, reset: Tensor | None, return_recall: bool
    ) -> tuple[Any, SABState] | tuple[Any, SABState, Recall]:
        """A call that goes on from a state on slots."""
        x, layout = entered
        mask = layout.reset_mask(reset, len(x), x.shape[1])
        if state.batched != layout.batched or len(state.step) != x.shape[1] or not served.goes_on(state, weights):
            fresh = self.fresh(x.shape[1], layout.batched)
            entering.check_state(state, fresh)
            entering.check_capacity(state, self.rule.capacity)
        stretches = layout.stretches(len(x), x.shape[1], mask)
        run = partial(served.run, weights=weights, record=return_recall)
        if len(stretches) == 1 and stretches[0].reset is None:
            return layout.given_back(*run(x, state))
        recalled, restart = self.k_top if return_recall else None, partial(served.restarted, weights=weights)
        ran = run_all(x, state, stretches, lambda x, state, _: run(x, state), recalled, restart)
        return layout.given_back(*ran)

    def _run_with(
        self,
        network: Network,
        choice: Choice,
        entered: Entered | None,
        input: Tensor | PackedSequence,
        state: Any,
        reset: Tensor | None,
        return_recall: bool,
    ) -> tuple[Any, SABState] | tuple[Any, SABState, Recall]:
        """`run`, with the tensors that the layer computes with in this call, and its input as entered, if known."""
        like = self.like()
        encoder_input = self._encoder_input(input, network, like)
        watch = self._watch_of_past(state, network)
        with watching(watch):
            x, layout = enter(input, self._encoder, self.batch_first) if entered is None else entered
        entering.check_input(x, self.input_size, like, name_of_input(self.encoder))
        if len(x) == 0:
            return self._without_steps(x, layout, network, state, reset, return_recall)
        x = x.to(like.dtype)  # under autocast too: what is kept of the call may be run again outside of it
        network = replace(network, note=noting(self._credit, layout.order))
        before = self._enter_state(state, x, layout, network, watch)
        mask = layout.reset_mask(reset, len(x), x.shape[1])
        runner = self._runner(choice, len(x), before, return_recall, encoder_input, network, watch)
        if like.device.type == "meta" and runner.network.backend == REFERENCE:
            output, after, recall = shapes_of(x, before, self.rule, return_recall)
        else:
            if watch is None and runner.watch is not None and runner.network.has_own_steps:
                runner.network.try_steps(x, before, Watch(runner.network.modules.tensors))
            with watching(runner.watch), runner.in_precision(like.device.type):
                output, after, recall = run_streams(x, before, layout, mask, runner, self.fresh)
            after = runner.finished(after)
            if watch is not None and runner.watch is not None:
                check_found(runner.watch, [*network.modules.tensors, *watch.found])
            ran = completed(Pass(output, after, recall), x, before, network, runner.keeps_graph)
            output, after, recall = ran.output, ran.after, ran.recall
        after = after if self.memory_device is None else after.with_memory_on(self.memory_device)
        return layout.given_back(output, layout.unsorted_rows(after), recall)

    def _without_steps(
        self, x: Tensor, layout: Layout, network: Network, state: Any, reset: Tensor | None, return_recall: bool
    ) -> tuple[Any, SABState] | tuple[Any, SABState, Recall]:
        """A call of no steps: its state is the one given, graph and past included, but for rows that are reset."""
        if isinstance(state, SABState):
            entering.check_entering(self, state, x.shape[1], layout.batched, network.transform)
            before = replace(state, made_by=self.made_by)
        else:
            fresh = self.fresh(x.shape[1], layout.batched)
            before = fresh if state is None else entering.begin_from(state, fresh)
        stretches = layout.stretches(0, x.shape[1], layout.reset_mask(reset, 0, x.shape[1]))
        recalled = (self.k_top or 0) if return_recall else None
        output, after, found = run_all(x, before, stretches, no_steps, recalled)
        return layout.given_back(with_graph_of(output, [x, *network.tensors]), after, found)

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
        generators, precision = generator_states(like.device), autocast_type(like.device.type)
        return EncoderInput.of(input, self.batch_first, generators, network.modules.modes, precision)

    def _remembers_calls(self, network: Network) -> bool:
        """Whether a call is kept for credit from later ones."""
        return torch.is_grad_enabled() and self.rule.horizon != 0 and network.transform is None

    def _has_past(self, state: Any, network: Network) -> bool:
        """Whether this call's credit goes into the calls that led to a state."""
        return isinstance(state, SABState) and self._remembers_calls(network) and not state.history.empty

    def _watch_of_past(self, state: Any, network: Network) -> Watch | None:
        """What finds the tensors from outside of a call whose credit goes into earlier ones; None for other calls."""
        return self._watch(network.modules) if network.modules and self._has_past(state, network) else None

    @staticmethod
    def _watch(modules: UserModules) -> Watch:
        """What watches modules that are to be run again."""
        surroundings.check_replayable(modules)
        return Watch(modules.tensors)

    @property
    def _encoder(self) -> Callable[[Tensor], Tensor] | None:
        """The encoder, as a watch sees it."""
        return None if self.encoder is None else watched("encoder", self.encoder, self.encoder)

    def _enter_state(self, state: Any, x: Tensor, layout: Layout, network: Network, watch: Watch | None) -> SABState:
        if state is None:
            fresh = self.fresh(x.shape[1], layout.batched)
            return counted(fresh, self.credit_every) if self._remembers_calls(network) else fresh
        if isinstance(state, SABState):
            entering.check_entering(self, state, x.shape[1], layout.batched, network.transform)
            maker = self.maker.after(state.history.maker)
            entering.warn_of_another_layer(state, maker)
            if self._remembers_calls(network):
                state.history = ordered(state, self.rule, self.credit_every)  # which need not be done again
            state = replace(state, made_by=self.made_by, history=state.history.changed(maker=maker))
            state = state if self.memory_device is None else state.with_memory_on(self.like().device)
            state = layout.sorted_rows(state.without_graph())
            if watch is not None:
                if network.has_own_steps:
                    network.try_steps(x, state, watch)
                network = network.with_outside(watch.found)
            return self._with_past(state, network)
        begun = entering.begin_from(state, self.fresh(x.shape[1], layout.batched))
        return layout.sorted_rows(counted(begun, self.credit_every) if self._remembers_calls(network) else begun)

    def fresh(self, rows: int, batched: bool = True) -> SABState:
        """The state of streams that have not begun."""
        fresh = fresh_state(rows, self.hidden_size, self.state_shapes, self.like(), self.rule.zero_slot)
        history = fresh.history.changed(maker=self.maker)
        return replace(fresh, batched=batched, made_by=self.made_by, history=history)

    def backend_now(self) -> str:
        """The backend of a call whose steps find no memories."""
        return self.choice().backend_for(memories=0)

    def check_backend(self) -> None:
        """Refuse a backend that cannot run; on the meta device none can, and what the layer is moved to may."""
        if self.like().device.type != "meta":
            self.backend_now()

    def _with_past(self, state: SABState, network: Network) -> SABState:
        """A state whose gradient reaches into the calls that led to it."""
        if not self._remembers_calls(network):
            return state
        history = ordered(state, self.rule, self.credit_every)
        if history.empty:
            return counted(replace(state, history=history), self.credit_every)
        due = len(history.owing) + 1 >= self.credit_every or self._credit is not None
        owed = Owed(due=due)
        past = self._past(history, network)
        if self.credit_every > 1 or history.owing:
            history = history.changed(owed=(*history.owed, owed))
        return with_past(replace(state, history=history), past, owed, due)

    @property
    def maker(self) -> Maker:
        """The layer with the parameters and modules that it has now."""
        return Maker(self, self.settle, self.given_modules(with_encoder=True))

    def _past(self, history: History, network: Network) -> PastCredit:
        """A past as credit is sent into it with the tensors of a network."""
        op = BACKENDS[network.backend].op if network.backend != REFERENCE else None
        on_op = op is not None and op.credits_past(self.k_top) and self._credit is None
        encode = None if self.encoder is None else self._encode
        return PastCredit(network, history, encode, on_op, may_fall_back=self.backend == "auto")

    def _encode(self, given: EncoderInput) -> Tensor:
        """X (T, B, I) of a past call once more; finite in rows that were not, where the numbers do not matter.

        No credit comes to such a row, but 0 times NaN in the encoder's backward pass would be NaN.
        """
        batch_first = self.batch_first if given.batch_first is None else bool(given.batch_first)
        x, layout = enter(given.given, self._encoder, batch_first)
        if not all_finite(x):
            lost = x.detach().isnan().any(2).any(0).to(x.dtype)  # (B,)
            cleared = given.cleared(layout.output(lost.view(1, -1, 1).expand(len(x), -1, 1)))
            with drawing_as(given.generators, given.input.device):
                x, _ = enter(cleared.given, self._encoder, batch_first)
        return x.to(self.like().dtype)

    def _runner(
        self,
        choice: Choice,
        steps: int,
        before: SABState,
        record: bool,
        encoder_input: EncoderInput | None,
        network: Network,
        watch: Watch | None,
    ) -> Runner:
        """How this call is run; network, watch: what credit into past calls goes to, see `_watch_of_past`."""
        if self.k_top is None:  # else the number of memories decides nothing
            network = replace(network, backend=choice.backend_for(self._most_alive(before, steps)))
        modules, replay = network.modules, torch.is_grad_enabled() and choice.replays(steps)
        if modules:
            modules = self.user_modules(with_encoder=False)
            network = replace(network, modules=modules)
        return Runner(
            network=network,
            replay=replay,
            may_fall_back=choice.may_fall_back,
            may_fuse=choice.may_fuse,
            record=record,
            remember=self._remembers_calls(network),
            encoder_input=encoder_input,
            dropout=self.dropout if self.training else 0.0,
            defers=self.credit_every > 1 or bool(before.history.owing),
            factors=self.draw_factors(before),
            watch=self._watch(modules) if modules and (replay or watch is not None) else None,
        )

    def draw_factors(self, state: SABState) -> tuple[Tensor, ...]:
        """`runner.draw_factors` for a call that begins with a state."""
        return draw_factors(state, self.recurrent_dropout if self.training else 0.0)

    def _network(self, input: Tensor | PackedSequence, state: Any) -> tuple[Network, Choice]:
        """The layers with the tensors they have now, made once a call, and the encoder; the choice of code for them.

        Args:
            input, state: the call's; what surrounds the call shows in them too.
        """
        layers = tuple(self.watched(layer) for layer in range(self.num_layers))
        modules = self.user_modules(with_encoder=True)
        given = [input.data if isinstance(input, PackedSequence) else input, *entering.tensors_of(state)]
        transform = surroundings.transform_of(chain(given, *(layer.tensors for layer in layers), modules.tensors))
        choice = self.choice(transform)
        backend = choice.backend_for(memories=0)
        network = Network(
            layers=layers,
            rule=self.rule,
            backend=backend,
            modules=modules,
            autocast=choice.precision(backend),
            transform=transform,
            dropout_scale=1 / (1 - self.dropout) if self.dropout < 1 else 0.0,
        )
        return network, choice
