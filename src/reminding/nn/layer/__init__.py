"""The layer as its users see it: `SAB`, its parameters, the layouts of its input, and the run of one call.

May import: `checks`, `nn.parts`, `nn.state`, `nn.state.past`, `nn.forward`, `nn.credit`, `reminding.ops`.
"""
