"""What is remembered of past calls: their segments, the memories that credit may reach, and the credit that waits.

A state holds these values, and `nn.credit` runs their steps again.
May import: `checks`, `nn.parts`.
"""
