"""Neural networks: the shared U-Net, its heads and the pooling of evidence."""
