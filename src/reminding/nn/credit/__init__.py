"""Credit sent backward through segments that are replayed: within a call, and into the calls before it.

`sweep` is the definition in plain PyTorch, `op_sweep` its fast form on an op, `autograd` joins either to the graph.
May import: `checks`, `nn.parts`, `nn.state`, `nn.state.past`, `nn.forward`, `reminding.ops`.
"""
