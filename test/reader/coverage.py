# SPDX-License-Identifier: Apache-2.0
"""Coverage of apps: docs/measurements.md, section 4."""
from strict import need


class App:
    """App is what a reader keeps for one name."""

    def __init__(self):
        self.last = None  # the last app event
        self.events = []  # (event, time when another replaced it or None)
        self.open = False
        self.carriable = False
        self.unmeasured = False


class Coverage:
    """Coverage follows the events of a log."""

    def __init__(self):
        self.apps, self.declarations = {}, {}
        self.containers = {}  # the last event by engine and id

    def app(self, name):
        """app is the state of one app."""
        return self.apps.setdefault(name, App())

    def in_force(self, name, digest):
        """in_force tells if the declaration is in force."""
        return self.declarations.get(name) == digest

    def _end(self, app, carriable):
        if app.open:
            app.open, app.carriable = False, carriable

    def apply(self, kind, body, time):
        """apply takes one event, and refuses app-same without what it repeats."""
        apps = self.apps.items()
        if kind in ("agent-start", "agent-reload"):
            self.declarations = {d["app"]: d["digest"] for d in body["declarations"] or []}
            for name, app in apps:
                if kind == "agent-start":
                    self._end(app, True)
                if app.last and not self.in_force(name, app.last["declaration"]):
                    app.open = app.carriable = False
        elif kind in ("agent-stop", "gap", "full"):
            for _, app in apps:
                self._end(app, kind != "full")
        elif kind == "app-unmeasured":
            app = self.app(body["app"])
            app.open = app.carriable = False
            app.unmeasured = True
        elif kind == "app":
            self._measured(self.app(body["app"]), body, time)
        elif kind == "container":
            self.containers[body["engine"], body["id"]] = body
        elif kind == "app-same":
            self._same(self.app(body["app"]), body)

    def _measured(self, app, body, time):
        if app.open and app.last["declaration"] != body["declaration"]:
            app.open = False
        if not app.open:
            app.open = self.in_force(body["app"], body["declaration"])
            app.carriable = False
        if app.events:
            app.events[-1] = (app.events[-1][0], time)
        app.events.append((body, None))
        app.last = body

    def _same(self, app, body):
        need(app.last, "app-same before any app event")
        need((body["declaration"], body["digest"]) == (app.last["declaration"], app.last["digest"]), "not the same")
        force = self.in_force(body["app"], body["declaration"])
        if body["carried"]:
            need(not app.open and app.carriable and force, "nothing to carry on")
            app.open, app.carriable = True, False
        elif not app.open and force:
            app.open, app.carriable = True, False
