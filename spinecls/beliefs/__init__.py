"""Labels as belief masses on sets of classes, of vertebrae and of voxels, with bag constraints.

A label is a list of focal sets S with masses m(S) >= 0 that sum to at most one; what is missing lies on the set of all
classes, which says nothing and costs nothing. A hard label is mass 1 on a singleton, "one of these" mass 1 on a set, a
doubtful label less than 1, "not read" no set at all. Several readers are the mean of their masses, or where they can be
judged what they make likely together (`beliefs.readers`). What single voxels cannot say, a bag does: how much of a
region is of a class.
"""

from spinecls.beliefs.vertebra import (
    MAX_SETS,
    Belief,
    agreed_class,
    belief,
    belief_by_reader,
    certain,
    partly_visible,
    refined,
)

__all__ = ["MAX_SETS", "Belief", "agreed_class", "belief", "belief_by_reader", "certain", "partly_visible", "refined"]
