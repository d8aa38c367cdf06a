"""`Aim`: the open-source tracker with a server of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.train.trackers.service import Service
from bloomery.train.trackers.tracker import Session


class Aim(Service):
    """Aim's repository in the working folder, or wherever Aim is set up to keep it. A run is known again by its name."""

    extra = "aim"

    @classmethod
    def package(cls) -> Any:
        try:
            import aim  # pyrefly: ignore[missing-import] (an extra)
        except ImportError:
            raise cls.missing() from None
        return aim

    def begin(self, session: Session) -> None:
        aim = self.package()
        repo = aim.Repo.default_repo(init=True)
        found = repo.query_runs(f"run.name == {session.run!r}", report_mode=0).iter_runs()  # 0: without a bar of its own
        hashes = [one.run.hash for one in found]
        # forced: the artifact's lease says that no other process writes this run; one that was killed left Aim's lock behind
        self._run = aim.Run(
            run_hash=hashes[0] if hashes else None, repo=repo, experiment="bloomery", force_resume=True, system_tracking_interval=None,
            log_system_params=False, capture_terminal_logs=False,
        )  # fmt: skip
        self._run.name = session.run
        self._run["settings"] = dict(session.settings)

    def send(self, step: int, values: Mapping[str, float]) -> None:
        self._run.track(dict(values), step=step)  # in place of what a killed session may have said of this step

    def end(self) -> None:
        self._run.close()
