"""Programs for looking at experiments, which are told of a run: a file a tracker."""
