"""The training images nearest to some others by a layer's values (Figure 4, right), and the paper's idea of codes.

"Computing similarity by using Euclidean distance between two 4096-dimensional, real-valued vectors is inefficient,
but it could be made efficient by training an auto-encoder to compress these vectors to short binary codes."
"""
