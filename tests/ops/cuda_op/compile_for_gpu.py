"""Compiles the Triton kernels for a GPU and prints the resources that they need. No GPU is required.

    python -m tests.ops.cuda_op.compile_for_gpu tiles even lstm additive softmax 256 0 bf16 [tree]

The arguments are: pair of kernels (rows; tiles; past: the row kernels that send credit into past calls), sizes (even:
tensors, H and D are multiples of 16, which a launch detects; any), cell, score, normalizer, H, capacity (0: none),
type of the weights and, optionally, how memories are found (scan, or among 16,384 memories tree or auto). Kernels are
compiled for compute capability 9.0; TRITON_INTERPRET=1 must be off. Prints for each kernel what cuobjdump reports
(registers and bytes of stack per thread) and the bytes of shared memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from reminding.ops.contract import SEARCH, OpRule
from reminding.ops.cuda_op.packing import WARPS, Call
from reminding.ops.cuda_op.triton import kernels, tiled, tiling

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
ABSENT = {"separable": ("w1", "w2"), "dot": ("w3",), "additive": ()}
BY_VALUE = ("first_tile", "T", "B", "H", "D", "M", "most", "k_top", "ranks", "k_att", "spans", "blocks")
BY_STEP = ("entry", "stored", "cut")
INTEGERS = ("slots", "edges", "listed", "members", "patience", "arrivals", "entry", "stored")
PROCESSORS = 132


def main(
    pair: str,
    sizes: str,
    cell: str,
    score: str,
    normalizer: str,
    H: str,
    capacity: str,
    kind: str,
    search: str = "scan",
) -> None:
    """Compile a pair of kernels, and print the resources that they need."""
    kept = {"capacity": int(capacity) or None, "evict": "least_recalled"}
    rule = OpRule.of(cell=cell, score=score, normalizer=normalizer, k_top=5, k_att=4, k_trunc=16, **kept)
    rule = rule._replace(search=SEARCH[search])
    slots = 16384 if int(capacity) >= 256 or search != "scan" else 256
    call = Call(rule, 1024, 64, int(H), 0 if score == "separable" else int(H), slots)
    shapes = {**call.shapes, "RECURRENT": call.recurrent, **dict.fromkeys(ABSENT[score])}
    shapes |= {"PAST": pair == "past"} | ({} if pair == "past" else dict.fromkeys(BY_STEP))
    options: dict[str, Any] = {"num_warps": WARPS}
    module, name = kernels, "kernel"
    if pair == "tiles":
        weights = TYPES[kind]
        plan = tiling.tiling(call, (weights, weights), torch.promote_types(weights, torch.float32), PROCESSORS)
        assert isinstance(plan, tiling.Tiling), plan
        shapes |= plan.shapes(call)
        options["launch_cooperative_grid"] = True
        module, name = tiled, "tiles"
    if pair == "past" and cell == "lstm":
        made = compiled(kernels.cells_kernel, {"WIDE": tiling.CELLS_WIDE}, kind, sizes == "even", {})
        print("cells", resources(made), "BYTES:", made.metadata.shared)
    directions = {"forward": call.choosing, "backward": call.sweeping}
    for direction, own in list(directions.items())[pair == "past" :]:
        made = compiled(getattr(module, f"{direction}_{name}"), {**shapes, **own}, kind, sizes == "even", options)
        assert made.metadata.launch_cooperative_grid == (pair == "tiles")
        print(direction, resources(made), "BYTES:", made.metadata.shared)


def compiled(kernel: Any, fixed: dict[str, Any], kind: str, even: bool, options: dict[str, Any]) -> Any:
    """A compiled kernel, for weights of a type and with some arguments fixed."""
    fixed = {a: value for a, value in fixed.items() if a in kernel.arg_names and a not in (*BY_VALUE, "k_trunc")}
    kinds = dict.fromkeys(BY_VALUE, "i32") | dict.fromkeys(INTEGERS, "*i32")
    kinds |= dict.fromkeys(("step0", "count0"), "*i64") | {"k_trunc": "i64", "cut": "*i8"}
    kinds |= dict.fromkeys(("weight_hh", "w1", "w2"), f"*{kind}") | dict.fromkeys(fixed, "constexpr")
    state = "*fp64" if kind == "fp64" else "*fp32"
    signature = {argument: kinds.get(argument, state) for argument in kernel.arg_names}
    sixteens = [a for a, of in signature.items() if even and (of[0] == "*" or a in ("H", "D"))]
    attributes = {(kernel.arg_names.index(a),): [["tt.divisibility", 16]] for a in sixteens}
    constants = {(kernel.arg_names.index(a),): value for a, value in fixed.items()}
    source = ASTSource(kernel, signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


def resources(made: Any) -> str:
    """The report of cuobjdump on a compiled kernel."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        return subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
