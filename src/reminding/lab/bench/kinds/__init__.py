"""What is measured besides a training step: `serve` times one step a call, `stream` training chunk by chunk.

May import: `checks`, `lab.bench`, `lab.runs`, `lab.show`, `reminding.nn`, `reminding.tasks`.
"""
