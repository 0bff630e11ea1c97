"""A small HTTP server that answers as Kubeflow's API does, for the real client to talk to."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Kubeflow:
    """A small HTTP server that remembers what it was asked and answers as Kubeflow's API does."""

    def __init__(self):
        self.asked, self.pipelines, self.versions, self.schedules, self.states = [], [], [], [], ["SUCCEEDED"]
        self.refuse = None
        served = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def _serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                url = urlsplit(self.path)
                path = url.path.removeprefix("/apis/v2beta1")
                served.asked.append((self.command, path, parse_qs(url.query), body, dict(self.headers)))
                code, answer = served.refuse or (200, served.answer(self.command, path, parse_qs(url.query), body))
                if isinstance(answer.get("state"), int):  # a state that is a number is a refusal
                    code, answer = answer["state"], {"message": "refused"}
                data = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self._serve()

            def do_POST(self):
                self._serve()

            def do_DELETE(self):
                self._serve()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method, path, query, body):
        if path == "/pipelines/upload":
            self.pipelines.append({"pipeline_id": "p1", "display_name": query["name"][0]})
            return self.pipelines[-1]
        if path == "/pipelines/upload_version":
            self.versions.append({"pipeline_id": "p1", "pipeline_version_id": "v1", "display_name": query["name"][0]})
            return self.versions[-1]
        if path == "/pipelines":
            return {"pipelines": self.pipelines}
        if path == "/pipelines/p1/versions":
            first = "page_token" not in query or not query["page_token"][0]
            pages = self.versions[:1] if first else self.versions[1:]
            return {"pipeline_versions": pages, "next_page_token": "2" if first and len(self.versions) > 1 else ""}
        if path == "/experiments":
            made = {"experiment_id": "e1", "display_name": "toys", "namespace": "toys"}
            return made if method == "POST" else {"experiments": [made]}
        if path == "/runs" and method == "POST":
            return {"run_id": "r1"}
        if path == "/runs/r1":
            return {"run_id": "r1", "state": self.states.pop(0) if len(self.states) > 1 else self.states[0]}
        if path == "/recurringruns":
            return {"recurring_run_id": "s2"} if method == "POST" else {"recurringRuns": self.schedules}
        return {}

    def posted(self, path):
        """Query, body and headers of each request that made something at `path`."""
        made = [rest for method, where, *rest in self.asked if (method, where) == ("POST", path)]
        return [tuple(rest) for rest in made]
