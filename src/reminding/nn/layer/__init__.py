"""The layer as its users see it: `SAB`, its parameters, the layouts of its input, and the run of one call.

May import: all other rooms of `nn`, `reminding.ops`.
"""
