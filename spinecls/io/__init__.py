"""Files: images, raw datasets, preprocessed cases and predictions."""
