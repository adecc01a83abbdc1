"""One self-contained HTML page of what an experiment has to say, with each figure and its numbers beside."""
