"""Drawing frames along flows: the operator, its reference in torch, and OpenCV on a CPU."""
