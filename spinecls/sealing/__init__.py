"""The sealed view of one vertebra: its region, and the crop in which everything else is overwritten."""
