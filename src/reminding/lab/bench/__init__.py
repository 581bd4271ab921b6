"""What one training step costs, in time and peak memory, beside `nn.LSTM` with full BPTT.

`options` and `contestants` say what to measure, `meter` takes one figure, `suite` takes all of them, `report` shows
them. On a GPU `gpu` measures, `floor` gives the least time, and `gpu_report` shows both.
May import: `checks`, `disk`, `lab.runs`, `lab.show`, `reminding.nn`, `reminding.tasks`.
"""
