"""What is written for how a processor computes, on maps [C, H, W * B]."""
