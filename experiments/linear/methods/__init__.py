"""Methods that fit a head without gradient descent, one module each: see `experiments/linear/method.py`."""
