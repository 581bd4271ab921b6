"""What one training step costs, in time and peak memory, beside `nn.LSTM` with full BPTT.

`options` says what to measure, `contestants` who is compared, `meter` how one figure is taken, `suite` takes them
all, `report` shows them.
May import: `lab.runs`, `lab.show`, `reminding.nn`, `reminding.tasks`.
"""
