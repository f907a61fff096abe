"""A model behind an HTTP endpoint: asked once, spaced, repeated, limited, known again; and its token stays secret."""

import copy
import json
import logging
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark import registry
from benchmark.api import Access, DataSpec
from benchmark.config.check import check_fit
from benchmark.errors import ConfigError, DataError, Refused
from benchmark.records.store import Store
from benchmark.run import run
from benchmark.threat import Threat, parse_eps
from tests.core.cells import plugin, small_config

SPEC, SECRET = DataSpec((1, 8, 8), 10), "s3cret-of-the-owner"
WEIGHTS = np.random.default_rng(0).normal(size=(64, 10))


class Server(ThreadingHTTPServer):
    """A linear classifier. asked: per request its inputs, token and time. codes: given before answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[int, str | None, float]] = []
        self.codes: list[tuple[int, dict[str, str]]] = []
        self.answer: Callable[[Any], Any] = lambda x: (x.reshape(len(x), -1) @ WEIGHTS).tolist()

    @property
    def url(self) -> str:
        """Address that it listens at."""
        return f"http://127.0.0.1:{self.server_address[1]}/predict"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        x = np.asarray(body["inputs"])
        self.server.asked.append((len(x), self.headers.get("Authorization"), time.monotonic()))
        code, headers = self.server.codes.pop(0) if self.server.codes else (200, {})
        reply = json.dumps({"outputs": self.server.answer(x)} if code == 200 else {"echo": dict(self.headers)}).encode()
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(reply))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, while the test runs, and no waiting for long."""
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr("benchmark_plugins.models._http.FIRST_WAIT", 0.01)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def model(server: Server, **settings: Any) -> Any:
    return registry.load("model", "http")(**{"url": server.url, "revision": "1", **settings})


def opened(made: Any) -> torch.nn.Module:
    module: torch.nn.Module = made.build(SPEC)
    module.load_state_dict(made.pretrained(SPEC))
    return module


def test_scores_are_those_of_the_endpoint_and_no_input_is_asked_twice(server: Server) -> None:
    module, x = opened(model(server, batch=4)), torch.rand(10, 1, 8, 8)
    server.asked.clear()
    said = module(torch.cat([x, x[:3]]))
    assert torch.allclose(said[:10].double(), torch.from_numpy(x.flatten(1).double().numpy() @ WEIGHTS), atol=1e-5)
    assert torch.equal(said[10:], said[:3])
    assert [count for count, _, _ in server.asked] == [2, 4, 4, 2]  # the probes, then ten in fours
    copy.deepcopy(module)(x)
    assert len(server.asked) == 4
    assert torch.equal(pickle.loads(pickle.dumps(module))(x), said[:10])


def test_refusals_for_now_are_waited_out_and_others_end_it(server: Server) -> None:
    server.codes = [(429, {"Retry-After": "0"}), (503, {}), (500, {})]
    module = opened(model(server, retries=3))
    assert len(server.asked) == 4
    server.codes = [(503, {})] * 9
    with pytest.raises(DataError, match="did not answer \\(503\\) after 4 attempts"):
        module(torch.rand(1, 1, 8, 8))
    for code, said in (
        (401, "refused the request with status 401; its token is taken from BENCHMARK_TOKEN_127_0_0_1"),
        (404, "refused the request with status 404"),
        (302, "refused the request with status 302"),
    ):
        server.codes = [(code, {"Location": "http://127.0.0.1:9/"})]
        with pytest.raises(DataError, match=said):
            opened(model(server))


def test_requests_are_spaced_and_counted(server: Server) -> None:
    module = opened(model(server, batch=1, rate=50, budget=8))
    server.asked.clear()
    module(torch.rand(5, 1, 8, 8))
    times = [at for _, _, at in server.asked]
    assert times[-1] - times[0] > 0.06  # of four gaps of 1/50 s
    with pytest.raises(DataError, match=r"has answered 7 inputs and 2 more are requested, but model\.budget is 8"):
        module(torch.rand(2, 1, 8, 8))


def test_another_model_behind_the_same_address_is_noticed(server: Server) -> None:
    made = model(server)
    state = made.pretrained(SPEC)
    server.answer = lambda x: (x.reshape(len(x), -1) @ WEIGHTS[:, ::-1]).tolist()
    module = made.build(SPEC)
    module.load_state_dict(state)
    with pytest.raises(DataError, match="another model is deployed there"):
        module(torch.rand(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("answers", "reply", "said"),
    [("logits", lambda x: [[1.0]] * len(x), "gives scores of shape"), ("logits", lambda x: [], "of that length"),
     ("logits", lambda x: ["a"] * len(x), "not numbers"),
     ("labels", lambda x: [10] * len(x), "other than labels below 10"),
     ("probabilities", lambda x: [[3.0] * 10] * len(x), "outside \\[0, 1\\]")],
)  # fmt: skip
def test_what_is_answered_otherwise_than_declared_is_an_error(
    server: Server, answers: str, reply: Any, said: str
) -> None:
    reply_type = type(model(server).answers)
    server.answer = reply
    with pytest.raises(DataError, match=said):
        model(server, answers=reply_type(answers)).pretrained(SPEC)


def test_labels_and_probabilities_limit_what_an_attacker_gets(server: Server) -> None:
    reply = type(model(server).answers)
    server.answer = lambda x: (x.reshape(len(x), -1) @ WEIGHTS).argmax(1).tolist()
    made = model(server, answers=reply("labels"))
    assert made.access is Access.labels
    assert set(opened(made)(torch.rand(4, 1, 8, 8)).flatten().tolist()) == {0.0, 1.0}
    server.answer = lambda x: [[0.1] * 10] * len(x)
    scores = opened(model(server, answers=reply("probabilities"), revision="2"))(torch.rand(2, 1, 8, 8))
    assert torch.allclose(scores.softmax(1), torch.full((2, 10), 0.1))


def test_addresses_with_credentials_or_in_the_clear_are_refused() -> None:
    made: Any = registry.load("model", "http")
    for url in ("https://me:word@host/x", "https://host/x?api_key=1", "https://host/x?v=1&token=1"):
        with pytest.raises(ConfigError, match="holds a credential"):
            made(url=url)
    for url in ("http://host/x", "ftp://host/x", "host/x"):
        with pytest.raises(ConfigError, match="expected https"):
            made(url=url)
    with pytest.raises(ConfigError, match=r"needs model\.url"):
        made(url="https://host/x").build(SPEC)


def test_a_cell_is_attacked_by_queries_alone_and_the_token_is_nowhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("BENCHMARK_TOKEN_127_0_0_1", SECRET)
    caplog.set_level(logging.DEBUG)
    threat = Threat(eps=parse_eps("1/10"), access=Access.scores)
    base = small_config(tmp_path, model=model(server), threat=threat, examples=6)
    with pytest.raises(Refused):
        check_fit(base)
    config = small_config(
        tmp_path, model=model(server), threat=threat, examples=6, attack=plugin("attack", "square", queries=5)
    )
    assert run(config).status == "complete", [record.error for record in Store(tmp_path / "results").records()]
    assert {token for _, token, _ in server.asked} == {f"Bearer {SECRET}"}
    (record,) = Store(tmp_path / "results").records()
    assert record.system.brings_code
    assert "own_code" in {finding.name for finding in record.findings}
    server.codes = [(403, {})]
    assert run(small_config(tmp_path / "other", model=model(server, revision="2"), threat=threat, examples=6,
                            attack=config.attack)).status == "failed"  # fmt: skip
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    out, err = capfd.readouterr()
    assert SECRET not in out + err + caplog.text
