"""Statistics over the rows of results: intervals, comparisons, Pareto fronts."""
