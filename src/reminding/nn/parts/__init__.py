"""What a layer is made of: cells, scorers, the memory, the rule, and the checks of its settings.

Nothing here runs over time. A new cell or scorer is added here.
May import: `checks`, `reminding.ops`.
"""
