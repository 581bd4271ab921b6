"""What tasks have in common: batches, losses and metrics, and the bases of generated, labelled and next-step tasks.

May import: nothing else of the package.
"""
