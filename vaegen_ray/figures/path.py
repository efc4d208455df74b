"""The path through the points (nc, mz) that shows double descent (xiao2024, Section 5.7, Figure 8).

nc grows at the smallest mz, then mz grows at that nc, then nc grows at the largest mz.
"""

import pandas as pd


def path_order(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``frame`` that lie on the path of Figure 8, in the order of the path.

    The path is read from the points (nc, mz) that are there. It turns at the nc with the most values of mz; among
    equals (a full grid, say) at the largest that leaves a larger nc for the last stretch. Points of a grid off the
    path are dropped. Rows with the same point keep their order.
    """
    points = frame[["nc", "mz"]].drop_duplicates()
    low, high = points["mz"].min(), points["mz"].max()
    heights = points[points["mz"] > low].groupby("nc").size()
    if heights.empty:
        return frame.sort_values("nc", kind="stable").reset_index(drop=True)
    turns = heights.index[heights == heights.max()]
    last = points.loc[points["mz"] == high, "nc"].max()
    turn = max(turns[turns < last], default=turns.max())

    first = (frame["mz"] == low) & (frame["nc"] <= turn)
    second = (frame["mz"] > low) & (frame["nc"] == turn)
    third = (frame["mz"] == high) & (frame["nc"] > turn)
    return frame[first | second | third].sort_values(["mz", "nc"], kind="stable").reset_index(drop=True)


def path_runs(points: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Cut an ordered path, one row a point, into stretches along which one axis grows: (``nc`` or ``mz``, its points).

    Neighbouring stretches share the point where the path turns. Where both axes change between neighbours, the point
    between them is still missing, and nothing links them.
    """
    runs: list[tuple[str, list[int]]] = []
    for i in range(1, len(points)):
        changed = [axis for axis in ("nc", "mz") if points[axis].iloc[i] != points[axis].iloc[i - 1]]
        if len(changed) != 1:
            continue
        if runs and runs[-1][0] == changed[0] and runs[-1][1][-1] == i - 1:
            runs[-1][1].append(i)
        else:
            runs.append((changed[0], [i - 1, i]))
    return [(axis, points.iloc[places]) for axis, places in runs]
