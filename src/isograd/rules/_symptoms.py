"""What follows when something goes wrong early: codes that causes may explain."""

OVER_DEPTH = ("IG101", "IG102", "IG201", "IG202", "IG203", "IG204", "IG205", "IG206", "IG207")
"""Signal and gradient over depth, units and outputs: all downstream of inputs and loss."""

OF_TRAINING = ("IG304", "IG305", "IG401", "IG502", "IG603", "IG604", "IG609")
"""Updates and losses: downstream of everything else."""

OVER_TIME = ("IG105", "IG208", "IG209", "IG210", "IG307", "IG308", "IG610")
"""What a training shows that steps too large or values not finite have harmed."""
