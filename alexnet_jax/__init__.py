"""AlexNet (Krizhevsky, Sutskever and Hinton, NIPS 2012), rebuilt in JAX.

Read `model.py` beside Figure 2 of the paper, then `columns.py`, `optimizer.py` and `train.py`.
"""
