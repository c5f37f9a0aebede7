"""The atlas: every model type of every port, checked; one table of which ports compute what PyTorch computes."""
