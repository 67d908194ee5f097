"""What a newcomer gets wrong is said in one sentence, at once, with what to do about it."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparse_embed import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DenseEncoder,
    SparseEncoder,
)
from sparse_embed.transport.client import mock_clients
from tests.faultserver import Action
from tests.ways import KEY, Way, both_ways, deaf_port, meeting

MANY = [f"text {number}" for number in range(200)]


def ask(use: Way, base_url: str | None, **settings: Any) -> APIConnectionError:
    with (
        SparseEncoder("chroma", base_url=base_url, **{"api_key": KEY} | settings) as encoder,
        pytest.raises(APIConnectionError) as failed,
    ):
        use(encoder, "embed_documents", MANY)
    return failed.value


@pytest.fixture
def free_port() -> Iterator[int]:
    with deaf_port() as port:
        yield port


@both_ways
def test_nothing_listens(use: Way, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ask(use, f"http://127.0.0.1:{free_port}/base")
    assert error.message == (
        f"nothing listens on http://127.0.0.1:{free_port}: start `sparse-embed serve` (with --stand-in for the "
        "provider's own models), or correct the address in base_url"
    )
    assert error.attempts == 3, "two short retries: a server may be starting"
    assert error.elapsed <= 3

    monkeypatch.setenv("CHROMA_EMBED_URL", f"http://localhost:{free_port}")
    assert "the address in CHROMA_EMBED_URL" in ask(use, None).message


@both_ways
def test_an_unknown_host_is_not_waited_for(use: Way) -> None:
    error = ask(use, "https://no-such-host.invalid")
    assert error.message == "the host name no-such-host.invalid is unknown: check the address in base_url"
    assert error.attempts == 1


class Peer:
    """Accepts connections on loopback and answers each with what it is told, with or without TLS."""

    def __init__(self, answer: bytes, tls: ssl.SSLContext | None = None) -> None:
        self._answer, self._tls = answer, tls
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                try:
                    if self._tls is not None:
                        connection = self._tls.wrap_socket(connection, server_side=True)
                    connection.recv(65536)
                    connection.sendall(self._answer)
                except OSError:  # the client has left
                    continue

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()


@pytest.fixture
def plain() -> Iterator[Peer]:
    peer = Peer(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    yield peer
    peer.close()


@pytest.fixture
def untrusted(tmp_path: Path) -> Iterator[Peer]:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    peer = Peer(b"", context)
    yield peer
    peer.close()


@both_ways
def test_tls_is_not_spoken_there(use: Way, plain: Peer) -> None:
    error = ask(use, f"https://localhost:{plain.port}", max_concurrency=1)
    assert f"https://localhost:{plain.port} does not speak TLS" in error.message
    assert "if it serves plain http, write http:// in base_url" in error.message
    assert error.attempts == 1


@both_ways
def test_a_certificate_that_is_not_trusted_is_not_waited_for(use: Way, untrusted: Peer) -> None:
    error = ask(use, f"https://localhost:{untrusted.port}", max_concurrency=1)
    assert (
        f"the certificate of https://localhost:{untrusted.port} is not trusted (self-signed certificate"
        in error.message
    )
    assert "SSL_CERT_FILE" in error.message
    assert error.attempts == 1


@pytest.mark.parametrize("address", ["127.0.0.1:8900", "localhost:8900", "localhost", "[::1]:8900"])
@pytest.mark.parametrize("provider", ["chroma", "pinecone"])
def test_an_address_on_loopback_needs_its_scheme(provider: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = {"chroma": "CHROMA_EMBED_URL", "pinecone": "PINECONE_CONTROLLER_HOST"}[provider]
    monkeypatch.setenv(variable, address)
    with pytest.raises(ConfigurationError, match=f"{variable} must say whether it is http or https") as refused:
        SparseEncoder(provider, api_key=KEY).embed_query("fox")
    assert f"http://{address}" in str(refused.value)


@both_ways
@pytest.mark.parametrize("source", ["api_key", "PINECONE_API_KEY"])
def test_a_refused_key_is_named_by_its_source_and_the_host_that_refused_it(
    use: Way, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINECONE_API_KEY", KEY)
    api_key = KEY if source == "api_key" else None
    with (
        meeting(lambda seen: Action(401, {"error": {"message": "no"}}), api_key=api_key) as (server, encoder),
        pytest.raises(AuthenticationError) as refused,
    ):
        use(encoder, "embed_query", "fox")
    assert refused.value.message == f"the server at {server.url} answered 401: no (it refused the key from {source})"


@pytest.mark.parametrize(
    ("base_url", "who"),
    [(None, "Chroma Cloud"), ("http://127.0.0.1:8900", "the server at http://127.0.0.1:8900")],
)
def test_the_provider_is_blamed_for_its_own_answers_only(base_url: str | None, who: str) -> None:
    client, _ = mock_clients(lambda _: (400, b'{"error": "no"}'))
    encoder = SparseEncoder("chroma", api_key=KEY, base_url=base_url, http_client=client)
    with pytest.raises(BadRequestError) as refused:
        encoder.embed_query("fox")
    assert refused.value.message == f"{who} answered 400: no"


@both_ways
def test_a_broken_connection_names_the_address(use: Way) -> None:
    with (
        meeting(lambda seen: Action(ending="close"), max_retries=0) as (server, encoder),
        pytest.raises(APIConnectionError) as failed,
    ):
        use(encoder, "embed_query", "fox")
    assert failed.value.message.startswith(f"no complete answer from the server at {server.url}: ")


def test_the_string_form_of_a_configuration_is_a_provider_too() -> None:
    encoder = SparseEncoder("chroma:local/bm25")  # type: ignore[arg-type]  # typed users have from_config
    assert (encoder.provider, encoder.model) == ("chroma", "local/bm25")
    with pytest.raises(ConfigurationError, match="the model is given twice"):
        SparseEncoder("chroma:local/bm25", model="local/bm25")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseEncoder("chroma", return_tokens=True), "return_tokens is an option for sparse vectors"),
        (lambda: SparseEncoder("pinecone", dimension=3), "dimension is an option for dense vectors"),
        (lambda: DenseEncoder("pinecone", max_tokens_per_sequence=512), "is an option for sparse vectors"),
        (lambda: SparseEncoder("chroma", on_event="print"), "on_event must be callable, unlike str"),
    ],
)
def test_an_option_that_does_not_apply_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@both_ways
@pytest.mark.parametrize("kind", [SparseEncoder, DenseEncoder])
@pytest.mark.parametrize(
    ("query", "message"),
    [(None, "the query is None, not str"), (["a"], "the query is list, not str"), ("\ud800", "the query holds half")],
)
def test_a_query_that_is_no_text_is_called_a_query(use: Way, kind: Any, query: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        use(kind("chroma", api_key=KEY), "embed_query", query)


def test_a_blank_dense_query_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="the query is blank"):
        DenseEncoder("chroma", api_key=KEY).embed_query(" ")
