"""From a trained model and an image to located, named and classified vertebrae."""
