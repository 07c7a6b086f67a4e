"""From raw dataset to plan and preprocessed data."""
