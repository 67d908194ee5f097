"""A hub of one model on loopback, as the client of the Hugging Face hub (huggingface_hub 2.4) asks it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

NAME = "tiny/splade"


class Hub(ThreadingHTTPServer):
    """Serves the files of each revision, a branch or a tag, under `NAME`."""

    def __init__(self, revisions: Mapping[str, Mapping[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.revisions = revisions
        self.fetched: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


def commit_of(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.respond()

    def do_HEAD(self) -> None:
        self.respond()

    def respond(self) -> None:
        path = urlsplit(self.path).path
        at = {key: revision for revision in self.server.revisions for key in (revision, commit_of(revision))}
        for revision, files in ((name, self.server.revisions[at[name]]) for name in at):
            if path == f"/api/models/{NAME}/tree/{revision}":
                self.say([{"type": "file", "path": name, "size": len(files[name]), "oid": "0"} for name in files])
            elif path in {f"/api/models/{NAME}/revision/{revision}", f"/api/models/{NAME}"}:
                siblings = [{"rfilename": name} for name in files]
                self.say({"id": NAME, "sha": commit_of(at[revision]), "siblings": siblings})
            elif path.startswith(prefix := f"/{NAME}/resolve/{revision}/"):
                name = path.removeprefix(prefix)
                if self.command == "GET":
                    self.server.fetched.append(name)
                self.send(200, files[name], {"X-Repo-Commit": commit_of(at[revision])})
            else:
                continue
            return
        self.send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def say(self, content: object) -> None:
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        for name, value in ({"ETag": etag, "Content-Length": str(len(content))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hub(revisions: Mapping[str, Mapping[str, bytes]]) -> Iterator[Hub]:
    with Hub(revisions) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
