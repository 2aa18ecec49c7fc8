"""What a run leaves behind to be gone on with, predicted with, or begun from."""
