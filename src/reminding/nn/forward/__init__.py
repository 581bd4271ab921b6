"""One layer run forward over time: the plain loop that defines it, and the faster ways held to it.

`reference` is the definition, `torch_kernels` serves where nothing is recalled, `compiled` the ops' backends.
May import: `nn.parts`, `nn.state`, `reminding.ops`.
"""
