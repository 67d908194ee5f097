"""Where a key may go, which settings are refused, and what is decided before any request."""

import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import pytest

from sparse_embed import BadRequestError, ConfigurationError, DenseEncoder, SparseEncoder
from sparse_embed.testing import fake_clients
from sparse_embed.transport.client import Exchange, mock_clients

ENCODERS = [SparseEncoder, DenseEncoder]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHROMA_API_KEY", "CHROMA_EMBED_URL", "PINECONE_API_KEY", "PINECONE_CONTROLLER_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"provider": "cohere"}, "unknown provider 'cohere': choose one of chroma, pinecone"),
        ({"provider": None}, "unknown provider None"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"batch_size": True}, "batch_size"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_retries": -1}, "max_retries"),
        ({"deadline": 0}, "deadline must be a positive number of seconds"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "60"}, "timeout"),
        ({"api_key": ""}, "api_key is empty"),
        ({"api_key": "two words"}, "api_key holds characters"),
        ({"api_key": "new\nline"}, "api_key holds characters"),
        ({"api_key": "schlüssel"}, "api_key holds characters"),
        ({"api_key": ["k"]}, "api_key must be a str or a SecretStr, not list"),
        ({"default_headers": ["x"]}, "default_headers must be a mapping, not list"),
        ({"rate_limiter": 20}, "rate_limiter needs acquire and aacquire, unlike int"),
        ({"default_headers": {"x": "SECRET\n"}}, r"default_headers\['x'\] must be printable ASCII"),
        ({"default_headers": {"x": "sécret"}}, "must be printable ASCII"),
        ({"default_headers": {"x": 1}}, "must be printable ASCII"),
        ({"default_headers": {"x: y": "z"}}, "is not a header's name"),
        ({"default_headers": {"Host": "other.example"}}, r"default_headers\['Host'\] is decided for each request"),
        ({"default_headers": {"content-length": "1"}}, r"default_headers\['content-length'\] is decided"),
        ({"default_headers": {"Transfer-Encoding": "chunked"}}, r"default_headers\['Transfer-Encoding'\] is decided"),
        ({"model": ""}, "model must be printable ASCII"),
        ({"model": "x\r\nx-evil: 1"}, "model must be printable ASCII"),
        ({"return_tokens": "false"}, "return_tokens must be of type bool, not str"),
        ({"allow_insecure_http": "false"}, "allow_insecure_http must be of type bool, not str"),
        ({"allow_insecure_http": 1, "base_url": "http://a.b"}, "allow_insecure_http must be of type bool, not int"),
        ({"base_url": "http://example.com"}, "would send the key in the clear"),
        ({"base_url": "ftp://example.com"}, "must look like https"),
        ({"base_url": "https://user:pass@example.com"}, "must hold no user"),
        ({"base_url": "https://example.com?x=1"}, "must hold no user"),
        ({"base_url": "https://evil.example\\@api.pinecone.io"}, "must look like"),
        ({"base_url": "https://"}, "must look like"),
        ({"base_url": "https://example.com:port"}, "is not a URL"),
        ({"base_url": 123}, "base_url must be of type str, not int"),
        ({"base_url": b"https://example.com"}, "base_url must be of type str, not bytes"),
        ({"base_url": ["https://example.com"]}, "base_url must be of type str, not list"),
        ({"base_url": httpx.URL("https://example.com")}, "base_url must be of type str, not URL"),
        ({"base_url": "https://a..b"}, "base_url holds no valid host name"),
        ({"base_url": f"https://{'a' * 64}.example"}, "base_url holds no valid host name"),
        ({"base_url": "https://xn--zzzzzzzz.example"}, "base_url holds no valid host name"),
        ({"base_url": "https://😀.example"}, "base_url holds no valid host name"),
        ({"base_url": "https://1.2.3.999"}, "base_url holds no valid host name"),
        ({"http_client": httpx.AsyncClient()}, "http_client must be of type Client, not AsyncClient"),
        ({"http_async_client": httpx.Client()}, "http_async_client must be of type AsyncClient, not Client"),
        ({"timeout": 1e12}, "timeout must be a positive number of seconds, at most 1000000, not 1000"),
        ({"deadline": 10**13}, "deadline must be a positive number of seconds, at most 1000000, not 1"),
        ({"deadline": "SECRET"}, "deadline must be .*, not str"),
        ({"max_retries": "SECRET"}, "max_retries must be .*, not str"),
        ({"default_headers": {"ünicode": "x"}}, "is not a header's name"),
        ({"model": 5}, "model must be of type str, not int"),
        ({"truncate": True}, "truncate must be of type str, not bool"),
        ({"truncate": "\ud800"}, "truncate cannot be written as JSON"),
        ({"dimension": "512"}, "dimension must be of type int, not str"),
        ({"dimension": True}, "dimension must be of type int, not bool"),
        ({"max_tokens_per_sequence": 512.0}, "max_tokens_per_sequence must be of type int, not float"),
        ({"parameters": None}, "parameters must be of type Mapping, not NoneType"),
        ({"parameters": ["a"]}, "parameters must be of type Mapping, not list"),
        ({"parameters": {"a": object()}}, "parameters cannot be written as JSON"),
        ({"parameters": {"a": "SECRET\ud800"}}, "parameters cannot be written as JSON"),
        ({"api_version": 2025}, "api_version must be of type str, not int"),
        ({"api_version": "é"}, "api_version must be printable ASCII"),
        ({"api_version": ""}, "api_version must be printable ASCII"),
        ({"provider": "chroma", "query_model": 5}, "query_model must be of type str, not int"),
        ({"provider": "chroma", "query_model": "SECRET é"}, "query_model must be printable ASCII"),
        ({"provider": "chroma", "query_model": "x\r\nx-evil: 1"}, "query_model must be printable ASCII"),
        ({"provider": "chroma", "task": 5}, "task must be of type str, not int"),
        ({"provider": "chroma", "task": "\ud800"}, "task cannot be written as JSON"),
        ({"provider": "chroma", "instructions": ["a"]}, "instructions must be of type str, not list"),
        ({"provider": "chroma", "query_instructions": b"a"}, "query_instructions must be of type str, not bytes"),
        ({"dimensions": 5}, r"Pinecone has no option 'dimensions' \(did you mean dimension\?\)"),
        ({"max_retry": 3}, r"Pinecone has no option 'max_retry' \(did you mean max_retries\?\)"),
        ({"xyz": 3}, "it has allow_insecure_http, api_key, .*, timeout, truncate$"),
        ({"task": "x"}, "Pinecone has no option 'task'"),
        ({"parameters": {"input_type": "query"}}, "must not hold input_type"),
        ({"provider": "chroma", "task": "a", "instructions": "b"}, "either task or instructions"),
    ],
)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_setting_that_cannot_work_is_refused_when_it_is_given(
    encoder: Callable[..., Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        encoder(**{"provider": "pinecone", "api_key": "k"} | arguments)
    assert isinstance(caught.value, ValueError)
    assert "SECRET" not in str(caught.value)
    assert "schlüssel" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["my_service:8000", "gateway.example.", "bücher.example", "xn--bcher-kva.example", "10.0.0.1", "[fe80::1]"]
)
def test_an_address_that_can_be_reached_is_taken(host: str) -> None:
    encoder = SparseEncoder("chroma", base_url=f"https://{host}/v1", api_key="k", **fake_clients())
    assert encoder.embed_query("q").nnz == 1


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("provider", "limit"), [("chroma", 100), ("pinecone", 96)])
def test_a_batch_size_over_the_limit_is_lowered_with_a_warning(
    encoder: Callable[..., Any], provider: str, limit: int
) -> None:
    with pytest.warns(UserWarning, match=f"limit: {limit} is used"):
        lowered = encoder(provider, batch_size=1000, api_key="k", **fake_clients())
    texts = [f"text {at}" for at in range(limit + 1)]
    assert len(lowered.embed_documents(texts)) == limit + 1
    assert lowered.usage.requests == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder(provider, batch_size=limit)


BAD_INPUTS = [
    ("one text", "a list of texts is needed, not str"),
    (b"one text", "a list of texts is needed, not bytes"),
    ({"id": "one text"}, r"of a mapping only the keys would be embedded: pass list\(mapping.values\(\)\)"),
    (None, "a list of texts is needed, not NoneType"),
    (7, "a list of texts is needed, not int"),
    (["fine", None], "text 1 is None, not str"),
    (["fine", "fine", b"bytes"], "text 2 is bytes, not str"),
    (["fine", ["nested"]], "text 1 is list, not str"),
    (["fine", "half \ud83d pair"], "text 1 holds half a surrogate pair"),
]


@pytest.mark.parametrize(("texts", "message"), BAD_INPUTS)
@pytest.mark.parametrize("encoder", ENCODERS)
async def test_bad_input_is_refused_with_its_position_before_any_request(
    encoder: Callable[..., Any], texts: Any, message: str
) -> None:
    made = encoder("chroma", api_key="k", **fake_clients())
    with pytest.raises(ConfigurationError, match=message):
        made.embed_documents(texts)
    with pytest.raises(ConfigurationError, match=message):
        await made.aembed_documents(texts)
    with pytest.raises(ConfigurationError):
        made.embed_query(None)
    with pytest.raises(ConfigurationError):
        await made.aembed_query(["query"])
    assert made.usage.requests == 0
    # A stream gives out the vectors of the texts before the bad one first.
    with pytest.raises(ConfigurationError, match=message):
        list(made.stream_documents(texts))
    with pytest.raises(ConfigurationError, match=message):
        [vector async for vector in made.astream_documents(texts)]


@pytest.mark.parametrize("encoder", ENCODERS)
async def test_only_the_asynchronous_stream_reads_an_asynchronous_source(encoder: Callable[..., Any]) -> None:
    async def source() -> AsyncIterator[str]:
        yield "text"

    made = encoder("chroma", api_key="k", **fake_clients())
    assert len([vector async for vector in made.astream_documents(source())]) == 1
    for method in (made.embed_documents, made.aembed_documents, made.stream_documents):
        with pytest.raises(ConfigurationError, match=r"not async_generator: .* astream_documents"):
            await method(source())


@pytest.mark.parametrize("encoder", ENCODERS)
async def test_no_texts_need_no_request_and_no_key(encoder: Callable[..., Any]) -> None:
    made = encoder("chroma")
    assert made.embed_documents([]) == await made.aembed_documents([]) == list(made.stream_documents([])) == []


async def test_a_blank_text_has_an_empty_sparse_vector_and_no_dense_one() -> None:
    sparse = SparseEncoder("chroma")
    for vectors in (sparse.embed_documents(["", " \n"]), await sparse.aembed_documents(["", " \n"])):
        assert [vector.nnz for vector in vectors] == [0, 0]
    assert sparse.embed_query("\t").nnz == (await sparse.aembed_query("")).nnz == 0
    dense = DenseEncoder("chroma", api_key="k", **fake_clients())
    with pytest.raises(ConfigurationError, match="text 1 is blank"):
        dense.embed_documents(["fine", " "])
    with pytest.raises(ConfigurationError, match="the query is blank"):
        await dense.aembed_query("")
    assert dense.usage.requests == 0


async def test_repeated_texts_are_sent_once_and_do_not_share_a_dense_list() -> None:
    dense = DenseEncoder("pinecone", api_key="k", **fake_clients())
    vectors = dense.embed_documents(["a", "b", "a"])
    assert vectors[0] == vectors[2]
    assert vectors[0] is not vectors[2]
    assert (dense.usage.texts, dense.usage.requests) == (2, 1)


@pytest.mark.parametrize("count", [0, 1, 5, 97])
async def test_progress_is_told_in_texts_and_ends_at_all_of_them(count: int) -> None:
    told: list[tuple[int, int | None]] = []
    encoder = SparseEncoder(
        "pinecone", api_key="k", batch_size=40, on_progress=lambda *now: told.append(now), **fake_clients()
    )
    texts = [f"text {at}" for at in range(count)] + ["", "text 0"][: count and 2]
    for embed in (encoder.embed_documents, lambda texts: list(encoder.stream_documents(texts))):
        told.clear()
        embed(texts)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert not texts or told[-1][0] == len(texts)
    await encoder.aembed_documents(texts)
    assert not texts or told[-1] == (len(texts), len(texts))
    told.clear()
    encoder.embed_query("query")
    assert told == []


@pytest.mark.parametrize(
    ("provider", "key_header", "ours"),
    [
        ("chroma", "X-Chroma-Token", {"Content-Type": "x", "X-Chroma-Embedding-Model": "x"}),
        ("pinecone", "API-KEY", {"content-Type": "x", "x-pinecone-API-version": "x"}),
    ],
)
def test_a_header_is_sent_once_however_its_name_is_written(
    provider: Any, key_header: str, ours: dict[str, str]
) -> None:
    seen: list[Mapping[str, str]] = []

    def answer(exchange: Exchange) -> tuple[int, bytes]:
        seen.append(exchange.headers)
        return 400, b""

    client, _ = mock_clients(answer)
    headers = {"User-Agent": "mine/1", key_header: "another", **ours}
    with pytest.raises(BadRequestError):
        SparseEncoder(provider, api_key="abc", default_headers=headers, http_client=client).embed_query("q")
    (sent,) = seen  # joins with a comma what comes twice
    assert sent["user-agent"] == "mine/1"
    assert sent[key_header] == "abc"
    assert sent["content-type"] == "application/json"
    assert not [name for name in ours if sent[name] == "x" or "," in sent[name]]


class TestKeys:
    """A key from the environment goes home, to the host of the provider's variable, and to loopback. Nowhere else."""

    def test_without_any_key_the_error_names_the_variable(self) -> None:
        for provider, variable in (("chroma", "CHROMA_API_KEY"), ("pinecone", "PINECONE_API_KEY")):
            with pytest.raises(ConfigurationError, match=f"set {variable} or pass api_key="):
                SparseEncoder(provider, **fake_clients()).embed_query("q")

    def test_the_environment_is_read_when_sending(self, monkeypatch: pytest.MonkeyPatch) -> None:
        encoder = SparseEncoder("pinecone", **fake_clients())
        monkeypatch.setenv("PINECONE_API_KEY", "from-environment\n")
        assert encoder.embed_query("q").nnz == 1

    @pytest.mark.parametrize(
        "address", ["https://u:p@h.example", "http://h.example", "ftp://h.example", "https://h:port"]
    )
    def test_a_wrong_address_of_the_environment_is_called_by_its_variable(
        self, monkeypatch: pytest.MonkeyPatch, address: str
    ) -> None:
        monkeypatch.setenv("CHROMA_EMBED_URL", address)
        with pytest.raises(ConfigurationError, match=r"^CHROMA_EMBED_URL "):
            SparseEncoder("chroma", api_key="k", **fake_clients()).embed_query("q")

    @pytest.mark.parametrize("base_url", [None, "http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9/path"])
    def test_an_environment_key_goes_home_and_to_loopback(
        self, monkeypatch: pytest.MonkeyPatch, base_url: str | None
    ) -> None:
        monkeypatch.setenv("CHROMA_API_KEY", "k")
        assert SparseEncoder("chroma", base_url=base_url, **fake_clients()).embed_query("q").nnz == 1

    @pytest.mark.parametrize(
        "base_url", ["https://evil.example", "https://api.pinecone.io.evil.example", "https://1.1.1.1"]
    )
    def test_an_environment_key_goes_to_no_other_host(self, monkeypatch: pytest.MonkeyPatch, base_url: str) -> None:
        monkeypatch.setenv("PINECONE_API_KEY", "topsecret")
        encoder = SparseEncoder("pinecone", base_url=base_url, **fake_clients())
        with pytest.raises(ConfigurationError, match="is not sent to") as caught:
            encoder.embed_query("q")
        assert "topsecret" not in str(caught.value)
        assert encoder.usage.requests == 0
        explicit = SparseEncoder("pinecone", base_url=base_url, api_key="topsecret", **fake_clients())
        assert explicit.embed_query("q").nnz == 1

    def test_the_providers_variable_vouches_for_its_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PINECONE_API_KEY", "k")
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", "gateway.example")
        assert SparseEncoder("pinecone", **fake_clients()).embed_query("q").nnz == 1
        assert SparseEncoder("pinecone", base_url="https://gateway.example/v1", **fake_clients()).embed_query("q").nnz
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", "http://gateway.example")
        with pytest.raises(ConfigurationError, match="in the clear"):
            SparseEncoder("pinecone", **fake_clients()).embed_query("q")

    @pytest.mark.parametrize("named", [None, "https://gateway.example"])
    def test_permission_for_plain_http_does_not_send_the_environments_key_in_the_clear(
        self, monkeypatch: pytest.MonkeyPatch, named: str | None
    ) -> None:
        monkeypatch.setenv("CHROMA_API_KEY", "topsecret")
        if named is not None:
            monkeypatch.setenv("CHROMA_EMBED_URL", named)
        host = "gateway.example" if named else "embed.trychroma.com"
        settings = {"provider": "chroma", "base_url": f"http://{host}", "allow_insecure_http": True}
        encoder = SparseEncoder.from_config(settings | fake_clients())
        with pytest.raises(ConfigurationError, match=f"is not sent to http://{host}") as caught:
            encoder.embed_query("q")
        assert "topsecret" not in str(caught.value)
        assert encoder.usage.requests == 0
        # Who names the plain address in the variable means it, and so does who gives the key with it.
        assert SparseEncoder.from_config(settings | fake_clients() | {"api_key": "k"}).embed_query("q").nnz == 1
        monkeypatch.setenv("CHROMA_EMBED_URL", f"http://{host}")
        assert encoder.embed_query("q").nnz == 1

    def test_a_loaded_config_cannot_send_the_environments_key_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHROMA_API_KEY", "k")
        encoder = SparseEncoder.from_config({"provider": "chroma", "base_url": "https://evil.example"})
        with pytest.raises(ConfigurationError, match=r"is not sent to evil\.example"):
            encoder.embed_query("q")


def test_from_config_takes_a_string_or_a_mapping() -> None:
    assert SparseEncoder.from_config("chroma").model == "prithivida/Splade_PP_en_v1"
    assert DenseEncoder.from_config("pinecone:multilingual-e5-large").model == "multilingual-e5-large"
    assert SparseEncoder.from_config({"provider": "pinecone", "max_retries": 3}).model == "pinecone-sparse-english-v0"
    with pytest.raises(ConfigurationError, match="names no provider"):
        SparseEncoder.from_config({"model": "x"})
    with pytest.raises(ConfigurationError, match="unknown provider 'openai'"):
        SparseEncoder.from_config("openai:ada")
