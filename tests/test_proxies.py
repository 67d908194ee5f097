"""Proxies and certificates of the environment: who is reached through them, and what a wrong one is called."""

import pytest

from sparse_embed import APIConnectionError, ConfigurationError, SparseEncoder
from sparse_embed.transport.client import _tls
from tests.faultserver import FaultServer, sparse_of
from tests.ways import KEY, both_ways

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=["http_proxy", "HTTP_PROXY", "all_proxy"])
def proxy(request, monkeypatch):
    """Answers by itself what a client wants passed on, and remembers it."""
    with FaultServer() as server:
        monkeypatch.setenv(request.param, server.url)
        yield server


@both_ways
def test_another_host_is_reached_through_the_proxy(use, proxy):
    with SparseEncoder("pinecone", api_key=KEY, base_url="http://gateway.example", allow_insecure_http=True) as encoder:
        assert use(encoder, "embed_query", "far") == sparse_of("far")
    assert proxy.requests[0].path == "http://gateway.example/embed"


@both_ways
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_a_proxy_never_sees_a_request_to_loopback_nor_its_key(use, proxy, host):
    with FaultServer() as server:
        encoder = SparseEncoder("chroma", api_key=KEY, base_url=server.url.replace("127.0.0.1", host))
        assert use(encoder, "embed_query", "near") == sparse_of("near")
        encoder.close()
    assert proxy.requests == []


@pytest.mark.parametrize("host", ["[::1]", "a.localhost"])
def test_nor_one_to_a_loopback_that_nobody_listens_on(proxy, host):
    encoder = SparseEncoder("chroma", api_key=KEY, base_url=f"http://{host}:9", max_retries=0)
    with encoder, pytest.raises(APIConnectionError):
        encoder.embed_query("near")
    assert proxy.requests == []


@pytest.mark.parametrize(
    "host", ["127.0.0.2", "[::ffff:127.0.0.1]", "[::1%251]", "localhost.", "localhost.example", "127.0.0.1.example"]
)
def test_what_a_proxy_might_see_is_no_loopback(host):
    with pytest.raises(ConfigurationError, match="would send the key in the clear"):
        SparseEncoder("chroma", api_key=KEY, base_url=f"http://{host}:9")


WRONG = {
    "a scheme that is none": ("http_proxy", "gopher://user:hush@proxy.example", "gopher"),
    "not a URL": ("http_proxy", "http://user:hush@proxy.example:port", "not a URL"),
    "SOCKS without its package": ("all_proxy", "socks5://user:hush@proxy.example", "socksio"),
    "no such certificates": ("SSL_CERT_FILE", "/no/such/file.pem", "No such file"),
}


@both_ways
@pytest.mark.parametrize(("variable", "value", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_one_is_a_configuration_error_that_names_the_variables(use, monkeypatch, variable, value, said):
    monkeypatch.setenv(variable, value)
    _tls.cache_clear()  # shared by the process, perhaps since an earlier test
    with SparseEncoder("chroma", api_key=KEY) as encoder, pytest.raises(ConfigurationError, match=said) as caught:
        use(encoder, "embed_query", "nowhere")
    assert variable.upper() in str(caught.value)
    assert "hush" not in str(caught.value)
