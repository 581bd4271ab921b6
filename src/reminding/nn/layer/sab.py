"""`SAB`: a recurrent layer that is reminded of its past, in the place of `nn.LSTM`.

Shapes: L layers, B batch, T time, I input, H hidden, D score width, K k_top.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from reminding import checks
from reminding.nn.credit.ledger import Credit
from reminding.nn.layer.calls import LayerCalls
from reminding.nn.layer.choice import Plan
from reminding.nn.layer.stepper import Stepper
from reminding.nn.parts import settings
from reminding.nn.parts.forget_bias import ForgetBias
from reminding.nn.parts.memory import Memory
from reminding.nn.parts.rule import Rule
from reminding.nn.state.stream import Recall, SABState
from reminding.ops import untraced
from reminding.ops.backends import names
from reminding.ops.contract import LARGEST_K_TOP, SEARCH, STORED
from reminding.ops.sparsify import NORMALIZERS


class SAB(LayerCalls):
    """Recurrent layer trained by Sparse Attentive Backtracking.   [Ke et al. 2018, Algorithm 1]

    At each step the recurrent cell proposes a state; the layer scores it against a memory of its own past
    states, adds a sparse weighted sum of the few best to it, and now and then stores a state. Gradients
    flow back through what was recalled, and through at most `k_trunc` steps at a time otherwise.

    Args:
        input_size: features of a step, I.
        hidden_size: features of the state, H.
        num_layers: layers on top of one another, each with a memory of its own.
        cell: "lstm", "gru", "rnn" (tanh), or a module called as `cell(x, state) -> (h, state)`, see
            `UserCell`; a sequence of modules, one per layer, where there are several. A GRU carries h over, with all
            that was ever added to it: h may grow beyond all numbers within some hundreds of steps. A small
            recall_scale, such as 0.1, or summary_gate=0 keeps it small at first.
        forget_scale: factor on an LSTM's forget gate, above 0 and at most 1; 1 is `nn.LSTM`. With 1 the cell state c
            can grow by 1 a step without showing in h, until the gates can no longer change it. Below 1, `|c|` stays
            within 1 / (1 - forget_scale), and lasting information has to go through the memory.
        forget_bias: the initial bias of an LSTM's forget gates, or of a GRU's z: a number, or "chrono:T" for biases
            log U(1, T - 1) that remember over up to T steps, an LSTM's input gates getting the opposite
            [Tallec & Ollivier 2018]. A gate has two biases, whose sum counts: bias_ih is set and bias_hh is 0. None:
            as `nn.LSTM` draws them.
        k_top: how many memories a step may recall. 0: none, which is truncated BPTT. None: all of them; the C++ op
            takes up to 1,024 at once. Counts (k_att, k_trunc, capacity, horizon and credit_every) may be as large as
            2**61, and k_top as 2**20.
        k_att: a state is stored every k_att steps. None: every k_trunc steps, at the end of each segment;
            every step where k_trunc is None too.
        k_trunc: the recurrent gradient is cut every k_trunc steps. None: never; on a stream a state then keeps the
            record of all calls within the horizon, whatever capacity.
        score: "additive" (W3 . tanh(W1 m + W2 h), the paper's), "dot", "separable" (the release's), or a
            module with methods `keys` and `scores`, see `Scorer`; a sequence of modules where there are
            several layers. None: "additive", or "separable" under semantics="release".
        score_size: width D of the score's projections; a multiple of 16 is fastest in the C++ op. None: 32, or
            hidden_size if that is less.
        normalizer: "softmax" over the k_top best scores; "softmax1", the same with an option to recall nothing, at
            the score 0, which streams need if stored="h"; or "threshold", the paper's rule. None: "softmax", or
            "threshold" under semantics="release", where it means the release's own rule.
        recall_scale: factor on the recall weights, above 0 and at most 1. Weights that sum to 1 add whole memories
            to h, which is stored in its turn, so h grows over an endless stream. Below 1, h stays bounded:
            `|h| <= sqrt(H) / (1 - recall_scale)` with cell="lstm" or "rnn" and no negative weights.
        null_score: initial score of recalling nothing, a learned number per layer, for normalizer="softmax1": what
            scores below it is recalled little. None: 0, not learned.
        summary_gate: initial value, between -1 and 1, of a learned gate per feature that multiplies the summary,
            tanh(g) with g learned [the tanh gating of Alayrac et al. 2022]. Near 0 nothing that is recalled changes
            h at first. None: no gate.
        stored: what goes to memory: "h", or "proposal", the state that the cell proposes before the summary is added.
            With cell="lstm" or "rnn" memories are then no sums of memories, and `|h| <= 2 sqrt(H)` over any stream
            where weights are not negative. A GRU's proposal contains the last h, so that nothing bounds it.
        semantics: "paper", or "release" for what the authors' code does instead: the memory starts with a
            zero vector, segments are counted differently, weights are normalised differently.
        bias: whether the recurrent cell has biases.
        batch_first: input and output are (B, T, ...) rather than (T, B, ...).
        dropout: probability of dropping outputs between layers while training.
        recurrent_dropout: probability of dropping a feature of h on its way into the cell's weights while training.
            Each row and layer has one mask per call, the same at every step [Gal & Ghahramani 2016]. Output, memory
            and scores use the whole h, and a GRU carries the whole h over. A cell of your own is given the masked h.
            backend="cuda" does not run it in training.
        bidirectional, proj_size: False and 0, the only values that `nn.LSTM`'s arguments may have here.
        capacity: at most this many memories per row. None: no limit.
        evict: which memory is evicted when the capacity is full: "fifo", "least_recalled" (the one with the
            smallest accumulated weight, Kerg et al. 2020), or a function of the `Memory` that returns one slot
            per row, (B,) int64.
        memory_device: where a state keeps its memories and the record of past calls between calls. "cpu" saves a
            GPU's memory when many streams share it: a call copies them from page-locked memory to the layer's device
            and back. None: the layer's device.
        horizon: how many steps before a call its credit may travel back into the calls that led to its state.
            None: as far back as anything is remembered. 0: not at all, and no record is kept.
        credit_every: the state adds up the credit that calls send into the calls before them, and every so many calls
            a backward pass sends it on. 1: each call's at once. With more, a past segment is replayed once for all of
            them. While the weights do not change, the gradients add up to those of one call over the joined inputs;
            memories evicted before the first of the calls, and steps beyond the horizon before it, are constants.
            With weights that change, the credit is delayed: it passes through the segments as they run with the
            weights of the time it is sent on. `settle` sends on what waits at the end of a stream. With horizon=0
            no credit passes between calls, whatever credit_every.
        backtrack: False: memories are read but receive no gradient (the paper's ablation of mental updates).
        backend: "auto", "reference", "cpu" or "cuda": which code computes the recurrence. "reference" is plain
            PyTorch and does everything; "cpu" is a C++ op for the built-in cells, scorers and ways to evict in
            float32 and float64, which autocast does not lower; "cuda" are Triton kernels, for half precision and
            autocast too, tested in Triton's interpreter and compiled, but not yet run on a GPU, so "auto" does not
            take them. Only "auto" falls back, and logs why; where k_top is 0 it runs PyTorch's own recurrent kernels
            segment by segment.
        engine: how the backward pass is done. "autograd" keeps what each step computed; "replay" runs a segment
            again when credit reaches it, which takes less memory and more time. "auto" replays inputs of 512 steps
            or more; `plan` tells. Your own cells and scorers can be replayed if the rows of a batch do not
            interact, if a memory's score depends on its own key alone, if scorers draw no random numbers, and if they
            keep nothing from one step to the next but their state.
        search: how the C++ op and the CUDA kernels find the k_top best of many memories; the result is the same.
            "scan" scores them all. "tree" first scores groups of memories by a bound on their members' scores, and
            passes over groups that cannot hold one of the best; it needs an additive or dot score, k_top up to 63 and
            more memories than a group. Elsewhere, and in plain PyTorch, all are scored; `plan` tells. "auto" takes
            the tree where it computes few of the scores, which it finds out step by step, and the scan elsewhere. The
            CUDA kernels try it from 4,096 memories on.
        encoder: a module applied to the input first (an embedding, say); it must return features of
            size input_size in the input's layout. Credit to past calls applies it to their inputs again, so it must
            carry nothing over from call to call, as a cache of the last inputs would.
        device, dtype: of the parameters.

    Raises:
        ValueError: an argument is out of its range, unknown, or cannot run here; the message names it.

    Of the arguments, `batch_first`, `dropout`, `recurrent_dropout`, `memory_device`, `credit_every`, `backend`,
    `engine` and `encoder` are attributes that may be changed between calls. To change another is an AttributeError.

    Parameters have the names and layouts of `nn.LSTM` (`nn.GRU`, `nn.RNN`): weight_ih_l0, weight_hh_l0,
    bias_ih_l0, bias_hh_l0, and per layer score_memory_l0 (D, H) = W1, score_query_l0 (D, H) = W2 and
    score_out_l0 (D,) = W3, or score_weight_l0 (2H,) for "separable", its first half against the present
    state; null_score_l0 (1,) and summary_gate_l0 (H,) = g where asked for. So a trained `nn.LSTM` is loaded with
    `load_state_dict(..., strict=False)`.

    torch.compile leaves a layer as it is and compiles what is around it; `fullgraph=True` refuses.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        cell: str | nn.Module | Sequence[nn.Module] = "lstm",
        forget_scale: float = 1.0,
        forget_bias: float | str | None = None,
        k_top: int | None = 5,
        k_att: int | None = None,
        k_trunc: int | None = 10,
        score: str | nn.Module | Sequence[nn.Module] | None = None,
        score_size: int | None = None,
        normalizer: str | None = None,
        recall_scale: float = 1.0,
        null_score: float | None = None,
        summary_gate: float | None = None,
        stored: str = "h",
        semantics: str = "paper",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        capacity: int | None = None,
        evict: str | Callable[[Memory], Tensor] = "fifo",
        memory_device: torch.device | str | None = None,
        backtrack: bool = True,
        horizon: int | None = None,
        credit_every: int = 1,
        backend: str = "auto",
        engine: str = "auto",
        search: str = "auto",
        encoder: nn.Module | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size = checks.at_least("input_size", input_size, 1)
        self.hidden_size = checks.at_least("hidden_size", hidden_size, 1)
        self.num_layers = checks.at_least("num_layers", num_layers, 1)
        self.score_size = settings.score_size(score_size, hidden_size)
        self.semantics = checks.one_of("semantics", semantics, ("paper", "release"))
        self.bias, self.batch_first = checks.each_yes_or_no(bias=bias, batch_first=batch_first)
        self.encoder = settings.module_or_none("encoder", encoder)
        settings.refuse_what_streams_lack(bidirectional, proj_size)
        self.dropout = settings.dropout(dropout, num_layers)
        self.recurrent_dropout = settings.recurrent_dropout(recurrent_dropout, cell)
        self.backend = checks.one_of("backend", backend, ("auto", *names()))
        self.engine = checks.one_of("engine", engine, settings.ENGINES)
        self.memory_device = settings.device_or_none("memory_device", memory_device)
        usual = {"paper": ("softmax", "additive"), "release": ("threshold", "separable")}[semantics]
        self.normalizer = checks.one_of("normalizer", normalizer or usual[0], NORMALIZERS)
        self.null_score = settings.null_score(null_score, self.normalizer)
        self.summary_gate = settings.summary_gate(summary_gate)
        k_trunc = checks.at_least_or_none("k_trunc", k_trunc, 1)
        self.credit_every = checks.at_least("credit_every", credit_every, 1)
        self.rule = Rule(
            k_top=checks.at_least_or_none("k_top", k_top, 0, LARGEST_K_TOP),
            k_att=checks.at_least("k_att", (k_trunc or 1) if k_att is None else k_att, 1),
            k_trunc=k_trunc,
            semantics=semantics,
            normalizer=self.normalizer,
            recall_scale=checks.share_above_zero("recall_scale", recall_scale),
            forget_scale=settings.forget_scale(forget_scale, cell),
            capacity=checks.at_least_or_none("capacity", capacity, 1),
            evict=settings.evict(evict),
            backtrack=checks.yes_or_no("backtrack", backtrack),
            horizon=checks.at_least_or_none("horizon", horizon, 0),
            search=checks.one_of("search", search, list(SEARCH)),
            null_score=null_score is not None and k_top != 0,
            summary_gate=summary_gate is not None and k_top != 0,
            stored=checks.one_of("stored", stored, tuple(STORED)),
        )
        self.forget_bias = ForgetBias.parsed(forget_bias, cell, bias)
        self.build(cell, score or usual[1], remembers=k_top != 0, kind=settings.kind(device, dtype))
        self.check_backend()

    @overload
    def forward(
        self,
        input: Tensor | PackedSequence,
        state: Any = None,
        *,
        hx: Any = None,
        reset: Tensor | None = None,
        return_recall: Literal[False] = False,
    ) -> tuple[Any, SABState]: ...
    @overload
    def forward(
        self,
        input: Tensor | PackedSequence,
        state: Any = None,
        *,
        hx: Any = None,
        reset: Tensor | None = None,
        return_recall: Literal[True],
    ) -> tuple[Any, SABState, Recall]: ...
    def forward(
        self,
        input: Tensor | PackedSequence,
        state: Any = None,
        *,
        hx: Any = None,
        reset: Tensor | None = None,
        return_recall: bool = False,
    ) -> tuple[Any, SABState] | tuple[Any, SABState, Recall]:
        """Run over a sequence, or over the next chunk of one.

        Args:
            input: (T, B, I), or (B, T, I) with `batch_first`, or unbatched (T, I), or a `PackedSequence`; what
                the encoder takes if there is one. T and B may be 0; a call of no steps leaves the state as it is.
            state: what the last call returned, to go on with its streams; None begins new ones. The start of a
                new stream may also be given as `nn.LSTM` takes it: (h, c), or h alone for cells without c, of
                shape (L, B, H), unbatched (L, H).
            hx: another name of `state`, which `nn.LSTM` has.
            reset: where new streams begin: (B,) bool, before the first step, or in the input's layout
                (T, B), before each step marked. These rows lose their state, memory and step count.
            return_recall: also return what was recalled.

        Returns:
            output in the input's layout, (T, B, H); the state after it; the `Recall` if asked for.

        Raises:
            ValueError: shape, type or device do not fit; the message names the argument.

        Gradient: autograd's for the equations of the paper with the cuts of `k_trunc` and no others. It reaches
        input, parameters, and (h, c) given as tensors. Through a `SABState` it also reaches the parameters in the
        calls that led to the state: with unchanged weights, chunks give the gradient of the whole sequence. If the
        weights have changed since, a past segment is run again with the current weights, from its entering state,
        with the memories it read at their old values. So each call's loss is backpropagated by itself, and no graph
        is kept between calls. Inputs of past calls, and (h, c) that these began with, receive no gradient. Memories
        evicted before the call, steps run without gradient, and memories beyond the horizon are constants.

        Numbers that are not finite: from the first step at which a row's input has a NaN or infinite feature, the
        row's output is NaN, until its stream is reset. Its recall there has weights and a summary of NaN, and names
        no memory. The other rows are those of a batch without it. In such a call the gradients of all parameters are
        NaN whatever the loss, and so is the gradient of this row's input and state; no credit goes from it into past
        calls. Every backend and engine does the same.
        """
        state = settings.one_of_two("state", state, "hx", hx)
        if torch.compiler.is_compiling():  # `layer.compile()`, or a forward that is called by itself
            return untraced.run(self.run, input, state, reset, return_recall)
        return self.run(input, state, reset, return_recall)

    def stepper(self, state: SABState | None = None) -> Stepper:
        """An object that takes streams on a step a call, without gradient and at the cost of a step.

        Args:
            state: what the streams go on from; it is copied. None: new streams, as many as the first step has rows.

        Raises:
            ValueError: the state is of another layer; the message says what differs.
        """
        return Stepper(self, SAB.forward, state)

    def __setattr__(self, name: str, value: Any) -> None:
        """Check a setting that may be changed, and refuse one that would be changed without effect."""
        super().__setattr__(name, settings.changed(self, name, value, _FIXED) if self._made else value)

    @contextmanager
    def credit(self) -> Generator[Credit]:
        """Record which memories receive credit, how much, and through which later step::

            with layer.credit() as credit:
                output, state = layer(x, state)
                loss(output).backward()
            credit.step, credit.memory_step, credit.amount    # the largest first

        Calls made inside are replayed in plain PyTorch, whatever `engine` says, so that their backward passes can
        be watched: gradients are the same, and slower. With `credit_every` above 1, each of them sends what waits at
        once, from calls before the recording too. Each recall has one entry, with all the gradient that came through
        it while this recorded; see `Credit`.

        Raises:
            ValueError: k_top is None, so that every step credits every memory; or the layer is already being
                recorded.
        """
        if self.k_top is None:
            raise ValueError("credit() needs a layer with a k_top; with k_top=None every step recalls every memory")
        if self._credit is not None:
            raise ValueError("credit() of this layer is already being recorded")
        self._credit = Credit()
        try:
            yield self._credit
        finally:
            self._credit = None

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles have: a copy records no credit, and is not compiled, as the copy of any module."""
        return {**super().__getstate__(), "_credit": None}

    def plan(self, steps: int) -> Plan:
        """What an input of so many steps would be run by now, and how its backward pass would be done.

        Args:
            steps: the input's length, T.

        Raises:
            ValueError: steps is no integer of at least 0.
        """
        steps = checks.at_least("steps", steps, 0)
        return self.choice().plan(steps, self._most_alive(self.fresh(1), steps))

    def extra_repr(self) -> str:
        """The settings that matter, as they were resolved."""
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, cell={self.cell!r}, "
            f"forget_scale={self.rule.forget_scale}, k_top={self.k_top}, k_att={self.k_att}, k_trunc={self.k_trunc}, "
            f"score={self.score!r}, normalizer={self.normalizer!r}, recall_scale={self.rule.recall_scale}, "
            f"semantics={self.semantics!r}, capacity={self.rule.capacity}, "
            f"horizon={self.rule.horizon}, backtrack={self.rule.backtrack}, batch_first={self.batch_first}"
            + ", bias=False" * (not self.bias)
            + f", dropout={self.dropout}" * (self.dropout > 0)
            + f", recurrent_dropout={self.recurrent_dropout}" * (self.recurrent_dropout > 0)
            + f", forget_bias={self.forget_bias}" * (self.forget_bias is not None)
            + f", null_score={self.null_score}" * (self.null_score is not None)
            + f", summary_gate={self.summary_gate}" * (self.summary_gate is not None)
            + f", stored={self.rule.stored!r}" * self.rule.stores_proposal
        )


_FIXED = set(inspect.signature(SAB).parameters) - {*settings.CHANGED, "encoder", "device", "dtype"}
"""The arguments that a layer keeps; a change of its device or type is `nn.Module`'s affair."""
