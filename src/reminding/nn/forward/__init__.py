"""One layer run forward over time: the plain loop that defines it, and the faster ways held to it.

`reference` is the definition, `torch_kernels` serves where nothing is recalled, `compiled` the ops' backends. Without
gradient, `served` and `streams` go on from call to call with memories in `slots` and `packed_weights`.
May import: `nn.parts`, `nn.state`, `nn.state.past`, `reminding.ops`.
"""
