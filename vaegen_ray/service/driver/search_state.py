"""The course of a search: which points are under way, what they report, when one is stopped. No Ray in this file.

    begin -> a point and its bundle -> report, at every evaluation -> go on, or stop -> end

The rows tell what was done (``results.search_history``); this is the memory of one run of the driver. A point is named
in ``sweep.json`` before it is trained, so that the next run goes on with it.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile

from vaegen_ray.bundle.packing import Bundle
from vaegen_ray.errors import StorageError
from vaegen_ray.models.layout import params_total, params_z
from vaegen_ray.results.declaration import Declaration
from vaegen_ray.results.schema import TrialStatus, trial_row
from vaegen_ray.results.search_history import history, judged, note_suggestions
from vaegen_ray.results.store import SweepStore
from vaegen_ray.search.search import PointKey, PointRecord, Search, point_key
from vaegen_ray.search.suggest import suggest
from vaegen_ray.service.worker.attempts import Starts
from vaegen_ray.spec.trial import bundle_id

Rule = Callable[[str, int, float], bool]
"""Whether a point is to be stopped: its name, the number of the evaluation (0, 1, ...), and its value there. It
remembers what it was asked."""
Report = Sequence[tuple[str, int, float]]
"""ELBOs on validation: trial, effective epoch, ELBO."""


class SearchState:
    """The points of one run.

    Args:
        search: what is searched.
        store: where its rows are.
        build_rule: builds what stops points; None: nothing does.
        description: what ``sweep.json`` records beside the trials.
        code_version: for the rows of stopped trials.
    """

    def __init__(
        self,
        search: Search,
        store: SweepStore,
        build_rule: Callable[[], Rule] | None,
        description: Declaration,
        code_version: str,
    ) -> None:
        self._search = search
        self._store = store
        self._build_rule = build_rule
        self._description = description
        self._code_version = code_version
        self.known = history(store, search)
        self.waiting = list(self.known.begun)
        """Points that an earlier run has begun; they come first."""
        self._running: dict[str, PointRecord] = {}
        self._given_up: list[PointRecord] = []
        """Points that are tried no more in this run, and are not known to be done."""
        self._judged: dict[PointKey, int] = {}
        """How many evaluations of a point were judged."""

    @property
    def left(self) -> int:
        """Points that are to be tried."""
        return max(0, self._search.points - len(self.known.done))

    @property
    def members(self) -> list[int]:
        """VAEs of each of them, in the order in which they begin."""
        first = [len(self.known.todo(self._search, tried.point)) for tried in self.waiting]
        return (first + [self._search.seeds] * self.left)[: self.left]

    def begin(self, name: str) -> Bundle:
        """The seeds of the next point that are to be trained; ``name`` stands for it from now on.

        Raises:
            StorageError: the point could not be noted; it is the next one again.
        """
        if self.waiting:
            tried = self.waiting.pop(0)
        else:
            tried = PointRecord(point=suggest(self._search, self._points()))
            self.known.order.append(point_key(tried.point))
        self._running[name] = tried
        try:
            trials = self._search.list_trials(self._points())
            note_suggestions(self._store, [spec for spec in trials if spec.seed == 0])
            self._store.write_declaration(self._description.with_trials(trials, planned=self._search.planned))
        except StorageError:
            self.waiting.insert(0, self._running.pop(name))
            raise
        return self.known.todo(self._search, tried.point)

    def report(self, name: str, elbos: Report, *, whole: bool) -> bool:
        """A point reports; whether it is to be stopped, which is then recorded.

        Args:
            elbos: everything that was measured so far.
            whole: its bundle was not divided; the parts of one that was are trained to their ends.
        """
        tried = self._running[name]
        self._take(tried, elbos)
        if not (self._judge(tried) and whole):
            return False
        self._stop(tried)
        return True

    def end(self, name: str, elbos: Report | None) -> None:
        """A point is over: committed, or given up when there is no report."""
        tried = self._running.pop(name)
        if elbos is None:
            self._given_up.append(tried)
            return
        self._take(tried, elbos)
        last = self._search.fields["epochs"]
        for spec in self._search.specs(tried.point):
            if last in self.known.elbos.get(spec.trial_id, {}):
                self.known.statuses.setdefault(spec.trial_id, TrialStatus.COMPLETED)
        if self.known.todo(self._search, tried.point):  # a seed failed, or a report was lost: the rows know
            try:
                order, self.known = self.known.order, history(self._store, self._search)
                self.known.order = order
            except StorageError:  # they will be read by the next run; Tune would take an error here for the worker's
                self._given_up.append(tried)
        else:
            self.known.done.append(judged(self._search, tried.point, self.known))

    def _take(self, tried: PointRecord, elbos: Report) -> None:
        for trial_id, epoch, elbo in elbos:
            self.known.elbos.setdefault(trial_id, {})[int(epoch)] = elbo
        tried.curve = judged(self._search, tried.point, self.known).curve

    def _points(self) -> list[PointRecord]:
        """All points, in the order in which they were suggested."""
        return self.known.sorted(*self._given_up, *self._running.values(), *self.waiting)

    def _judge(self, tried: PointRecord) -> bool:
        """Whether the rule stops a point by the evaluations that were not judged yet, but for the last of a training.

        A point is compared with those that were suggested before it, as far as they are. So the decisions of a search
        that evaluates one point at a time do not depend on when a driver was killed, or which rows were lost.
        """
        if self._build_rule is None:
            return False
        rule, key = self._build_rule(), point_key(tried.point)
        for earlier in takewhile(lambda each: point_key(each.point) != key, self._points()):
            for number, value in enumerate(self._values(earlier)):
                rule(str(point_key(earlier.point)), number, value)
        stops = [rule(str(key), number, value) for number, value in enumerate(self._values(tried))]
        judged, self._judged[key] = self._judged.get(key, 0), len(stops)
        return any(stops[judged:])

    def _values(self, tried: PointRecord) -> list[float]:
        last = self._search.fields["epochs"]
        return [value for epoch, value in sorted(tried.curve.items()) if epoch < last]

    def _stop(self, tried: PointRecord) -> None:
        """Commits the trials of a point as stopped; their metrics are written already."""
        bundle = self.known.todo(self._search, tried.point)
        name = bundle_id(bundle)
        rows = [
            trial_row(
                spec,
                sweep=self._store.name,
                bundle_id=name,
                status=TrialStatus.PRUNED,
                params_z=params_z(spec),
                params_rest=params_total(spec) - params_z(spec),
                code_version=self._code_version,
                bundle_members=len(bundle),
            )
            for spec in bundle
        ]
        self._store.commit_trials(name, rows)
        self._store.delete_checkpoint(name)
        Starts(self._store, "").forget(bundle)
        self.known.statuses |= {spec.trial_id: TrialStatus.PRUNED for spec in bundle}
