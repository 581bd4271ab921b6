"""The common parts of tasks: batches, losses and metrics, checks, and bases of generated, labelled, next-step tasks.

May import: `checks`.
"""
