"""A stand-in for the W&B service on the loopback interface: it takes what `wandb sync` sends, and remembers it."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OPERATION = re.compile(r"(?:query|mutation)\s+(\w+)")


@dataclass
class Service:
    """url: of the service. operations: (name, variables) of each GraphQL call. streams: what each run's stream got."""

    url: str = ""
    operations: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    streams: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def called(self, name: str) -> list[dict[str, Any]]:
        """The variables of every call of one operation."""
        return [variables for operation, variables in self.operations if operation == name]

    def lines(self, run_id: str, file: str) -> list[Any]:
        """The JSON lines that a run's stream got for one file, such as wandb-history.jsonl."""
        found = []
        for body in self.streams.get(run_id, []):
            found += [json.loads(line) for line in (body.get("files") or {}).get(file, {}).get("content", [])]
        return found

    def answer(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The service's answer to one GraphQL call; every artifact is there already."""
        if name == "UpsertBucket":
            run = str(variables.get("name"))
            project = {"name": "adversarial-benchmark", "entity": {"name": "nobody"}}
            bucket = {"id": run, "name": run, "displayName": run, "project": project, "historyLineCount": 0}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload/{file}"} for file in variables.get("files", [])]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if name == "CreateArtifact":
            sequence = {"id": "s", "latestArtifact": None}
            artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        return {"serverInfo": {"features": []}, "viewer": {"entity": "nobody"}}


@contextlib.contextmanager
def wandb_service() -> Iterator[Service]:
    """The service, for as long as the block runs."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.endswith("/graphql"):
                call = json.loads(data)
                name = (OPERATION.search(call["query"]) or ["", "?"])[1]
                variables = call.get("variables") or {}
                service.operations.append((name, variables))
                self._reply({"data": service.answer(name, variables)})
            elif self.path.endswith("/file_stream"):
                service.streams.setdefault(self.path.split("/")[-2], []).append(json.loads(data))
                self._reply({"exitcode": None, "limits": {}})
            else:
                self._reply({})

        do_PUT = do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up is none; W&B leaves its spare connections that way."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
